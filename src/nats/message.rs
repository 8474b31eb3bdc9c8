//! Messages on their way in and out.

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

/// A message as it came from NATS.
pub use async_nats::Message as Inbound;

/// A message to be sent. Its subject and headers were checked where they were made
/// (`subject`, `translate::headers`); nothing here can change the protocol's framing.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Where to.
    pub subject: Subject,
    /// The header block, if any.
    pub headers: Option<HeaderMap>,
    /// The payload, byte for byte.
    pub payload: Bytes,
}

impl Outbound {
    /// A message without headers.
    #[must_use]
    pub const fn new(subject: Subject, payload: Bytes) -> Self {
        Self {
            subject,
            headers: None,
            payload,
        }
    }

    /// The same with headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Option<HeaderMap>) -> Self {
        self.headers = headers;
        self
    }

    /// What counts against the server's `max_payload`: payload and header block, in bytes.
    #[must_use]
    pub fn counted_bytes(&self) -> usize {
        self.payload.len() + self.headers.as_ref().map_or(0, header_block_bytes)
    }

    /// What it takes in a queue, in bytes.
    pub(super) fn wire_bytes(&self) -> usize {
        self.counted_bytes() + self.subject.len()
    }
}

/// The length of a header block on the wire: `NATS/1.0\r\n`, a line a value, and an empty line.
#[must_use]
pub fn header_block_bytes(headers: &HeaderMap) -> usize {
    const FRAME_BYTES: usize = "NATS/1.0\r\n\r\n".len();
    let line = |name: &str, value: &str| name.len() + ": ".len() + value.len() + "\r\n".len();
    let lines = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
    FRAME_BYTES
        + lines
            .map(|(name, value)| line(name.as_ref(), value.as_str()))
            .sum::<usize>()
}
