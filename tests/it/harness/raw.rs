//! A NATS client of a few lines that sends and shows raw bytes: to spy on what natsway publishes,
//! and to publish what no client library would.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{SOON, within};

/// One message, with its header block byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    /// From `NATS/1.0` to the empty line, or nothing.
    pub(crate) headers: Option<Bytes>,
    pub(crate) payload: Bytes,
}

impl Message {
    /// The header block as text.
    pub(crate) fn header_text(&self) -> &str {
        let block = self.headers.as_deref().unwrap_or_default();
        std::str::from_utf8(block).expect("a header block is text here")
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload is text here")
    }
}

/// The connection.
pub(crate) struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    sids: u64,
    waiting: std::collections::VecDeque<Message>,
    /// What the server complained of with `-ERR`.
    pub(crate) errors: Vec<String>,
}

/// The INFO of whatever listens there, or nothing.
pub(crate) async fn server_info(address: &str) -> Option<Value> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let read = reader.read_line(&mut line);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .ok()?
        .ok()?;
    serde_json::from_str(line.strip_prefix("INFO ")?.trim()).ok()
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        Self::connect_with(address, "").await
    }

    /// With more members for CONNECT, such as `"user":"a","pass":"b",`.
    pub(crate) async fn connect_with(address: &str, members: &str) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("a TCP option");
        let (read, writer) = stream.into_split();
        let mut client = Self {
            reader: BufReader::new(read),
            writer,
            sids: 0,
            waiting: std::collections::VecDeque::new(),
            errors: Vec::new(),
        };
        let mut info = String::new();
        within(SOON, "INFO", client.reader.read_line(&mut info))
            .await
            .expect("the server greets");
        let connect = format!(
            "CONNECT {{{members}\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true,\"lang\":\"raw\",\"version\":\"0\",\"name\":\"raw\"}}\r\n"
        );
        client.send(connect.as_bytes()).await;
        client.flush().await;
        client
    }

    /// Any bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.writer
            .write_all(bytes)
            .await
            .expect("the server reads");
    }

    /// Subscribes, and returns when the server has it.
    pub(crate) async fn subscribe(&mut self, subject: &str) -> u64 {
        self.sids += 1;
        let line = format!("SUB {subject} {}\r\n", self.sids);
        self.send(line.as_bytes()).await;
        self.flush().await;
        self.sids
    }

    /// PUB with any payload, to a subject of any bytes that the server takes for one.
    pub(crate) async fn publish(&mut self, subject: impl AsRef<[u8]>, payload: &[u8]) {
        self.publish_reply(subject, "", payload).await;
    }

    /// PUB with a reply subject.
    pub(crate) async fn publish_reply(
        &mut self,
        subject: impl AsRef<[u8]>,
        reply: &str,
        payload: &[u8],
    ) {
        let mut frame = [b"PUB ", subject.as_ref()].concat();
        frame.extend_from_slice(format!(" {reply} {}\r\n", payload.len()).as_bytes());
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        self.send(&frame).await;
    }

    /// HPUB with a header block exactly as given, well-formed or not.
    pub(crate) async fn publish_headers(
        &mut self,
        subject: impl AsRef<[u8]>,
        reply: &str,
        headers: &[u8],
        payload: &[u8],
    ) {
        let total = headers.len() + payload.len();
        let mut frame = [b"HPUB ", subject.as_ref()].concat();
        let sizes = format!(" {reply} {} {total}\r\n", headers.len());
        frame.extend_from_slice(sizes.as_bytes());
        frame.extend_from_slice(headers);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        self.send(&frame).await;
    }

    /// A round trip: everything sent before has been read by the server.
    pub(crate) async fn flush(&mut self) {
        self.send(b"PING\r\n").await;
        within(SOON, "PONG", async {
            while let Some(frame) = self.frame().await {
                match frame {
                    Frame::Pong => return,
                    Frame::Message(message) => self.waiting.push_back(message),
                }
            }
            panic!("the server closed the connection: {:?}", self.errors);
        })
        .await;
    }

    /// The next message; nothing when the connection ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        if let Some(message) = self.waiting.pop_front() {
            return Some(message);
        }
        within(SOON, "a message", async {
            loop {
                match self.frame().await? {
                    Frame::Message(message) => return Some(message),
                    Frame::Pong => {}
                }
            }
        })
        .await
    }

    /// What has arrived by the time a round trip is over.
    pub(crate) async fn drain(&mut self) -> Vec<Message> {
        self.flush().await;
        self.waiting.drain(..).collect()
    }

    async fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first().copied() {
                Some("PING") => self.send(b"PONG\r\n").await,
                Some("PONG") => return Some(Frame::Pong),
                Some("MSG") => return self.message(&words, false).await.map(Frame::Message),
                Some("HMSG") => return self.message(&words, true).await.map(Frame::Message),
                Some("-ERR") => self.errors.push(line.trim().to_owned()),
                _ => {}
            }
        }
    }

    async fn message(&mut self, words: &[&str], has_headers: bool) -> Option<Message> {
        let sizes = if has_headers { 2 } else { 1 };
        let number = |index: usize| -> usize { words[index].parse().expect("a size") };
        let total = number(words.len() - 1);
        let reply = (words.len() - 1 - sizes > 2).then(|| words[3].to_owned());
        let mut body = BytesMut::zeroed(total + 2);
        self.reader.read_exact(&mut body).await.ok()?;
        body.truncate(total);
        let headers = has_headers.then(|| body.split_to(number(words.len() - 2)).freeze());
        Some(Message {
            subject: words[1].to_owned(),
            reply,
            headers,
            payload: body.freeze(),
        })
    }
}

enum Frame {
    Pong,
    Message(Message),
}
