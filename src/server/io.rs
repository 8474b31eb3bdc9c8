//! A connection's socket: TCP or Unix, one type, and every byte tells the connection's clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::pace::{PREFACE, Pace, Protocol};

/// Either kind of socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// No waiting for more to send, and a peer that acknowledges nothing is given up: a stream writes a
    /// keep-alive into the kernel's buffer every few seconds, so nothing but the kernel can notice.
    pub(super) fn prepare(&self, vanished_after: Duration) {
        let Self::Tcp(socket) = self else {
            return;
        };
        let millis = u32::try_from(vanished_after.as_millis()).unwrap_or(u32::MAX);
        // Neither can fail on a socket that is still open; on one that is not, reading says so.
        let _ = socket.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, millis);
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

/// The socket, its clock, and whatever must live as long as it does: the permit of the connection cap
/// and the token that the shutdown waits for. An upgraded connection keeps them, too.
#[derive(Debug)]
pub(super) struct Stream<K> {
    socket: Socket,
    pace: Arc<Pace>,
    /// What was read to tell the protocol; the parser reads it again.
    first: [u8; PREFACE.len()],
    first_filled: u8,
    first_taken: u8,
    write_closed: bool,
    _kept: K,
}

impl<K> Stream<K> {
    pub(super) fn new(socket: Socket, pace: Arc<Pace>, kept: K) -> Self {
        Self {
            socket,
            pace,
            first: [0; PREFACE.len()],
            first_filled: 0,
            first_taken: 0,
            write_closed: false,
            _kept: kept,
        }
    }

    /// Reads until the first bytes tell HTTP/2 with prior knowledge from HTTP/1.1. A client that leaves
    /// before is one of HTTP/1.1, whose parser knows what to make of that.
    pub(super) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            if let Some(protocol) = self.pace.protocol() {
                return Poll::Ready(Ok(protocol));
            }
            let filled = usize::from(self.first_filled);
            let mut buf = ReadBuf::new(&mut self.first[filled..]);
            ready!(self.socket.poll_read(cx, &mut buf))?;
            let read = buf.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            self.pace.read(read);
            self.first_filled += read.len() as u8;
        }
    }

    /// Gives out what was read to tell the protocol; whether there was any.
    fn replay(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.first[usize::from(self.first_taken)..usize::from(self.first_filled)];
        let length = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..length]);
        self.first_taken += length as u8;
        length > 0
    }

    fn poll_close_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }

    /// Throws away what the client still sends, until it has read the answer and closes, or the time
    /// the connection's clock gives is over. Closing a socket with unread bytes resets it, and a reset
    /// takes the answer away from a client that had not read it yet.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut buf = ReadBuf::uninit(&mut bytes);
            ready!(self.socket.poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn note(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => self.pace.stalled(),
            Poll::Ready(_) => self.pace.wrote(),
        }
        result
    }
}

impl<K: Unpin> AsyncRead for Stream<K> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let replayed = this.first_taken < this.first_filled && this.replay(buf);
        if replayed && buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // With what follows, so that the parser need not double its buffer for the rest of the first head.
        let before = buf.filled().len();
        let result = this.socket.poll_read(cx, buf);
        this.pace.read(&buf.filled()[before..]);
        match replayed {
            // What else there is to say of the socket, it says again.
            true => Poll::Ready(Ok(())),
            false => result,
        }
    }
}

impl<K: Unpin> AsyncWrite for Stream<K> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        };
        this.note(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        };
        this.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_closed {
            ready!(this.poll_close_write(cx))?;
            this.write_closed = true;
            this.pace.closing();
        }
        if this.pace.was_refused() {
            // A client that resets instead of closing has read what it wanted, too.
            let _ = ready!(this.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::lifecycle::Lifecycle;
    use crate::server::pace::Timers;

    #[tokio::test]
    async fn a_head_is_read_at_once_though_its_first_bytes_were_looked_at() {
        const HEAD: &[u8] = b"GET /v1/subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (mut client, socket) = UnixStream::pair().unwrap();
        let timers = Timers {
            header_timeout: Duration::MAX,
            idle_timeout: Duration::MAX,
            keep_alive: Duration::from_secs(1),
        };
        let pace = Arc::new(Pace::new(timers, Lifecycle::new().drain()));
        let mut stream = Stream::new(Socket::Unix(socket), pace, ());
        client.write_all(HEAD).await.unwrap();
        let protocol = std::future::poll_fn(|cx| stream.poll_protocol(cx)).await;
        assert_eq!(protocol.unwrap(), Protocol::Http1);
        let mut bytes = [0; 1024];
        assert_eq!(stream.read(&mut bytes).await.unwrap(), HEAD.len());
        assert_eq!(&bytes[..HEAD.len()], HEAD);
        // What comes with the end is not lost, and the end is told.
        client.write_all(b"more").await.unwrap();
        drop(client);
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 4);
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
    }
}
