//! HTTP/1.1 as bytes, over TCP or a Unix socket: for what no client library would send.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{SOON, within};

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// An open connection.
pub(crate) struct Connection {
    socket: Box<dyn Socket>,
    unread: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first header with this name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The `code` of a problem, or nothing where the body is none.
    pub(crate) fn code(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body["code"].as_str().map(str::to_owned)
    }
}

impl Connection {
    pub(crate) async fn tcp(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.expect("natsway listens");
        socket.set_nodelay(true).expect("a TCP option");
        Self::over(socket)
    }

    /// Nothing where nobody listens any more.
    pub(crate) async fn try_tcp(address: &str) -> Option<Self> {
        let socket = TcpStream::connect(address).await.ok()?;
        socket.set_nodelay(true).ok()?;
        Some(Self::over(socket))
    }

    /// From an address of this machine, such as `127.0.0.2`.
    pub(crate) async fn tcp_from(source: &str, address: &str) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let source = format!("{source}:0").parse().expect("an address");
        socket.bind(source).expect("an address of this machine");
        let address = address.parse().expect("an address");
        Self::over(socket.connect(address).await.expect("natsway listens"))
    }

    pub(crate) async fn unix(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).await.expect("natsway listens"))
    }

    fn over(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            unread: Vec::new(),
        }
    }

    /// Sends any bytes; false when the other side has closed.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.socket.write_all(bytes.as_ref()).await;
        sent.is_ok() && self.socket.flush().await.is_ok()
    }

    /// Sends a request of a head and a body with its Content-Length, and reads the answer.
    pub(crate) async fn request(&mut self, head: &str, body: &[u8]) -> Response {
        let head = format!(
            "{}\r\nContent-Length: {}\r\n\r\n",
            head.trim_end(),
            body.len()
        );
        self.send(head).await;
        self.send(body).await;
        self.response().await.expect("an answer")
    }

    /// Asks for a WebSocket and reads what is answered instead.
    pub(crate) async fn refused_upgrade(&mut self, path: &str) -> Response {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        );
        let response = self.request(&head, b"").await;
        assert_ne!(response.status, 101, "{path} was opened");
        response
    }

    /// Reads one answer: by its length, by its chunks, or to the end. Nothing if there is none.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        within(SOON, "an HTTP answer", self.read_response()).await
    }

    /// Reads the head alone; the body stays unread.
    pub(crate) async fn head(&mut self) -> Option<Response> {
        within(SOON, "an HTTP head", self.read_head()).await
    }

    /// Whatever comes next, at most `limit` bytes; empty at the end.
    pub(crate) async fn some_bytes(&mut self, limit: usize) -> Vec<u8> {
        if self.unread.is_empty() {
            within(SOON, "bytes", self.fill()).await;
        }
        let taken = self.unread.len().min(limit);
        self.unread.drain(..taken).collect()
    }

    /// Waits until the other side closes and returns what came until then.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        within(SOON, "the connection closes", async {
            while self.fill().await {}
        })
        .await;
        std::mem::take(&mut self.unread)
    }

    async fn read_response(&mut self) -> Option<Response> {
        let mut response = self.read_head().await?;
        let length: Option<usize> = response
            .header("content-length")
            .and_then(|v| v.parse().ok());
        let chunked = response
            .header("transfer-encoding")
            .is_some_and(|v| v == "chunked");
        if matches!(response.status, 100..200 | 204 | 304) {
            return Some(response);
        }
        response.body = match length {
            Some(length) => self.take(length).await?,
            None if chunked => self.chunks().await?,
            None => {
                while self.fill().await {}
                std::mem::take(&mut self.unread)
            }
        };
        Some(response)
    }

    async fn read_head(&mut self) -> Option<Response> {
        let head = self.take_through(b"\r\n\r\n").await?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Some(Response {
            status,
            headers,
            body: Vec::new(),
        })
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n").await?;
            let size = std::str::from_utf8(&line).ok()?.trim();
            let size = usize::from_str_radix(size, 16).ok()?;
            body.extend(self.take(size).await?);
            self.take(2).await?;
            if size == 0 {
                return Some(body);
            }
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    async fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|w| w == end) {
                return Some(self.unread.drain(..at + end.len()).collect());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        matches!(self.socket.read_buf(&mut self.unread).await, Ok(1..))
    }
}
