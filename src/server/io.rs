//! A connection's socket: TCP or Unix, one type, and every byte tells the connection's clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::pace::Pace;

/// Either kind of socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The socket, its clock, and whatever must live as long as it does: the permit of the connection cap
/// and the token that the shutdown waits for. An upgraded connection keeps them, too.
#[derive(Debug)]
pub(super) struct Stream<K> {
    socket: Socket,
    pace: Arc<Pace>,
    write_closed: bool,
    _kept: K,
}

impl<K> Stream<K> {
    pub(super) fn new(socket: Socket, pace: Arc<Pace>, kept: K) -> Self {
        Self {
            socket,
            pace,
            write_closed: false,
            _kept: kept,
        }
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
            match &mut self.socket {
                Socket::Tcp(socket) => ready!(Pin::new(socket).poll_read(cx, &mut buf))?,
                Socket::Unix(socket) => ready!(Pin::new(socket).poll_read(cx, &mut buf))?,
            }
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
        let before = buf.filled().len();
        let result = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        };
        this.pace.read(&buf.filled()[before..]);
        result
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
