//! The stream over a WebSocket, and what every WebSocket has in common.

mod stream;
mod unfinished;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use tokio::time::{sleep, timeout};

use super::stream_body::{Feed, Lifetimes};
use crate::layers::admission::StreamPermit;
use crate::layers::memory::Budget;
use crate::layers::received;
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};
use unfinished::Unfinished;

/// What is ready goes out together in writes of this size.
const WRITE_BYTES: usize = 16 * 1024;
/// Reads are small: a subscriber sends pongs, and the buffer is held for as long as the socket.
const READ_BYTES: usize = 4 * 1024;
/// What a subscriber sends is ignored, and not worth more memory than a read takes anyway.
const IGNORED_BYTES: usize = READ_BYTES;
/// How long the client may take to answer a close.
const CLOSING: Duration = Duration::from_secs(1);

const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_TOO_BIG: u16 = 1009;
const CLOSE_OVERLOADED: u16 = 1013;

/// A request that wants to become a WebSocket.
pub struct Upgrade {
    upgrade: WebSocketUpgrade,
    permit: Option<StreamPermit>,
    received: Option<received::Received>,
    unfinished: Option<Unfinished>,
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

impl Upgrade {
    /// Reads the handshake.
    ///
    /// # Errors
    /// When it is none.
    pub async fn of(parts: &mut Parts) -> Result<Self, Problem> {
        let permit = parts.extensions.get().cloned();
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
        let upgrade = upgrade.map_err(|rejection| {
            Problem::new(Code::InvalidHeader)
                .detail(format!("no WebSocket handshake: {}", rejection.body_text()))
        })?;
        Ok(Self {
            upgrade,
            permit,
            received: parts.extensions.get().cloned(),
            unfinished: None,
        })
    }

    /// Draws what has come of a message before it is whole.
    #[must_use]
    pub fn paid_from(mut self, bodies: &Arc<Budget>) -> Self {
        let received = self.received.clone();
        self.unfinished = received.map(|received| Unfinished::new(received, bodies));
        self
    }

    /// Chooses a subprotocol, where the client offers it.
    #[must_use]
    pub fn protocol(mut self, name: &'static str) -> Self {
        self.upgrade = self.upgrade.protocols([name]);
        self
    }

    /// The answer that turns the connection into a stream of `feed`.
    pub fn stream(self, feed: impl Feed, raw: bool, lifetimes: &Lifetimes) -> Response {
        let clock = lifetimes.clock();
        self.accept(IGNORED_BYTES, lifetimes, move |socket| {
            stream::run(socket, feed, raw, clock)
        })
    }

    /// The answer that turns the connection into a WebSocket for `serve`. Its task ends with the
    /// connection, and the shutdown waits for that.
    pub fn accept<F>(
        self,
        message_max: usize,
        lifetimes: &Lifetimes,
        serve: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let lifetimes = lifetimes.clone();
        let (permit, received, unfinished) = (self.permit, self.received, self.unfinished);
        self.upgrade
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(WRITE_BYTES)
            .max_frame_size(message_max)
            .max_message_size(message_max)
            .on_upgrade(move |socket| async move {
                serve(Socket::new(socket, &lifetimes, received, unfinished)).await;
                drop(permit);
            })
    }
}

/// The client is gone, or takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// An open WebSocket.
pub struct Socket {
    inner: WebSocket,
    drain: Drain,
    stall: Duration,
    is_dirty: bool,
    awaits_pong: bool,
    received: Option<received::Received>,
    unfinished: Option<Unfinished>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// What comes in.
#[derive(Debug)]
pub enum Received {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary,
    /// Nothing more: the client closed, vanished or broke the protocol.
    End(Option<u16>),
}

impl Received {
    /// The word for an end that is natsway's doing and not the client's.
    #[must_use]
    pub const fn ends_for(&self) -> Option<&'static str> {
        match self {
            Self::End(Some(CLOSE_OVERLOADED)) => Some("overloaded"),
            Self::Text(_) | Self::Binary | Self::End(_) => None,
        }
    }
}

impl Socket {
    fn new(
        inner: WebSocket,
        lifetimes: &Lifetimes,
        received: Option<received::Received>,
        unfinished: Option<Unfinished>,
    ) -> Self {
        Self {
            inner,
            drain: lifetimes.drain.clone(),
            stall: lifetimes.keep_alive * 2,
            is_dirty: false,
            awaits_pong: false,
            received,
            unfinished,
        }
    }

    /// The next frame that is more than a sign of life.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        loop {
            let Poll::Ready(frame) = self.inner.poll_next_unpin(cx) else {
                let unfinished = self.unfinished.as_mut();
                return match unfinished.is_none_or(Unfinished::is_paid) {
                    true => Poll::Pending,
                    false => Poll::Ready(Received::End(Some(CLOSE_OVERLOADED))),
                };
            };
            self.awaits_pong = false;
            if let (Some(unfinished), Some(Ok(frame))) = (&mut self.unfinished, &frame) {
                match frame {
                    Message::Ping(bytes) | Message::Pong(bytes) => unfinished.skip(bytes),
                    Message::Text(_) | Message::Binary(_) | Message::Close(_) => unfinished.ended(),
                }
            }
            return Poll::Ready(match frame {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Text(text))) => Received::Text(text),
                Some(Ok(Message::Binary(_))) => Received::Binary,
                Some(Ok(Message::Close(_))) | None => Received::End(None),
                Some(Err(error)) => Received::End(close_code(error)),
            });
        }
    }

    /// Sends a text frame with what is there; it goes out with the next [`Self::flush`], or earlier.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        let message = match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(bytes),
        };
        self.feed(message).await
    }

    async fn feed(&mut self, message: Message) -> Result<(), Gone> {
        self.is_dirty = true;
        let feeding = self.inner.feed(message);
        let vanished = vanished(self.stall, self.received.as_ref());
        let written = in_time(feeding, vanished, &self.drain).await?;
        self.note(written);
        Ok(())
    }

    /// There was no room for a write and then there was: the client takes what it is sent, and what it is
    /// asked waits behind that.
    const fn note(&mut self, written: Written) {
        if matches!(written, Written::Later) {
            self.awaits_pong = false;
        }
    }

    /// Writes what was sent.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        let vanished = vanished(self.stall, self.received.as_ref());
        let written = in_time(self.inner.flush(), vanished, &self.drain).await?;
        self.note(written);
        Ok(())
    }

    /// Whether the client has given no sign of life since it was asked for one: it has sent nothing, and
    /// taken nothing that a write had to wait for.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.awaits_pong
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// When the last one that was asked for did not come.
    pub async fn ping(&mut self) -> Result<(), Gone> {
        if std::mem::replace(&mut self.awaits_pong, true) {
            return Err(Gone);
        }
        self.feed(Message::Ping(Bytes::new())).await?;
        self.flush().await
    }

    /// What it was asked for may lie among what is not read now.
    pub const fn excuse(&mut self) {
        self.awaits_pong = false;
    }

    /// Says why it ends, and lets the client read it.
    pub async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        };
        let closing = async {
            self.inner.feed(Message::Close(Some(frame))).await?;
            self.inner.flush().await?;
            // A socket that is dropped with unread bytes is reset, and takes the frame with it.
            while self.inner.recv().await.is_some_and(|frame| frame.is_ok()) {}
            Ok::<_, axum::Error>(())
        };
        let _as_far_as_possible = timeout(CLOSING, closing).await;
    }

    /// Ends what the client ended, with a code where it broke the protocol.
    pub async fn end(mut self, code: Option<u16>) {
        match code {
            Some(CLOSE_TOO_BIG) => self.close(CLOSE_TOO_BIG, "too big").await,
            Some(CLOSE_OVERLOADED) => self.close(CLOSE_OVERLOADED, "overloaded").await,
            Some(code) => self.close(code, "protocol error").await,
            // The answer to a close frame waits to be written.
            None => {
                let _as_far_as_possible = timeout(CLOSING, self.inner.flush()).await;
            }
        }
    }
}

/// When a write was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    AtOnce,
    Later,
}

/// A write that must go on: a client that takes nothing for two keep-alives has vanished, and a
/// shutdown does not wait for it.
async fn in_time<E>(
    write: impl Future<Output = Result<(), E>>,
    vanished: impl Future<Output = ()>,
    drain: &Drain,
) -> Result<Written, Gone> {
    let mut write = pin!(write);
    if let Poll::Ready(written) = futures_util::poll!(write.as_mut()) {
        return written.map(|()| Written::AtOnce).map_err(|_| Gone);
    }
    let written = tokio::select! {
        written = write.as_mut() => written.map_err(|_| Gone),
        () = vanished => Err(Gone),
        () = drain.draining() => match timeout(CLOSING, write.as_mut()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        },
    };
    written.map(|()| Written::Later)
}

/// Waits until the client has taken nothing for so long. A long message may take longer, part by part, but
/// not for ever: nothing else is looked after meanwhile.
async fn vanished(stall: Duration, received: Option<&received::Received>) {
    /// How often it is looked again, in that time.
    const LOOKS: u32 = 8;
    /// How many of these times a message may take.
    const LONGEST: u32 = 32;
    sleep(stall).await;
    let mut looks = 0..LOOKS * LONGEST;
    while looks.next().is_some() && received.is_some_and(|received| !received.is_stalled()) {
        sleep(stall / LOOKS).await;
    }
}

/// The code for what a client did wrong; none where the connection is simply lost.
fn close_code(error: axum::Error) -> Option<u16> {
    use tungstenite::Error;
    let error = error.into_inner().downcast::<Error>().ok()?;
    match *error {
        Error::Capacity(_) => Some(CLOSE_TOO_BIG),
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) | Error::Utf8(_) => Some(CLOSE_PROTOCOL),
        _ => None,
    }
}
