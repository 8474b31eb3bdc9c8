//! A body with a meter around it: how much may come, how fast, and for how much there is room.

use std::borrow::Borrow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::clock::Clock;
use super::room::Room;
use super::{no_room, too_large};
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};

pub(super) struct Metered<D, R> {
    pub(super) body: Body,
    pub(super) limit: u64,
    pub(super) read: u64,
    pub(super) room: R,
    pub(super) clock: Clock<D>,
    /// Something came when most of the request's time was over.
    pub(super) late: bool,
}

impl<D: Borrow<Drain>, R: Room> Metered<D, R> {
    fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        self.late |= self.clock.moved();
        self.read += bytes as u64;
        if self.read > self.limit {
            return Err(too_large(self.limit));
        }
        if !self.room.covers(self.read) {
            return Err(no_room());
        }
        Ok(())
    }
}

/// A problem on its way through axum's body error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(Problem);

fn refused(problem: Problem) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    Poll::Ready(Some(Err(axum::Error::new(Refused(problem)))))
}

impl<D: Borrow<Drain> + Unpin, R: Room + Unpin> http_body::Body for Metered<D, R> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                match this.count(frame.data_ref().map_or(0, Bytes::len)) {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(problem) => refused(problem),
                }
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => refused(ready!(this.clock.poll_over(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What an error of a body means to the client.
#[must_use]
pub fn problem_of(error: axum::Error) -> Problem {
    let mut inner = error.into_inner();
    // Every body that wraps another wraps its error, too.
    while inner.is::<axum::Error>() {
        match inner.downcast::<axum::Error>() {
            Ok(wrapped) => inner = wrapped.into_inner(),
            Err(other) => inner = other,
        }
    }
    match inner.downcast::<Refused>() {
        Ok(refused) => refused.0,
        Err(_) => Problem::new(Code::InvalidBody).detail("the body ended before it was complete"),
    }
}

/// A body that came in one piece is a part of what was read from its socket, 8 KiB or more. One as small
/// as this is copied: else a message that waits for NATS would hold all of that.
const COPIED_BYTES: usize = 4 << 10;

/// Reads a body to its end. A large one that came in one piece is not copied.
///
/// # Errors
/// When it is too large, too slow or cut short.
pub(super) async fn collect(
    mut body: impl http_body::Body<Data = Bytes, Error = axum::Error> + Unpin,
) -> Result<Bytes, Problem> {
    let Some(first) = next_data(&mut body).await? else {
        return Ok(Bytes::new());
    };
    let is_alone = body.is_end_stream();
    let second = match is_alone {
        true => None,
        false => next_data(&mut body).await?,
    };
    let Some(second) = second else {
        return Ok(match first.len() {
            ..=COPIED_BYTES => Bytes::copy_from_slice(&first),
            _ => first,
        });
    };
    let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(first.len() + second.len() + rest);
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(data) = next_data(&mut body).await? {
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn next_data(
    body: &mut (impl http_body::Body<Data = Bytes, Error = axum::Error> + Unpin),
) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        // Trailers mean nothing to a message.
        if let Ok(data) = frame.map_err(problem_of)?.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
