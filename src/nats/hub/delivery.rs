//! A received message and its encoded forms, shared by all who read it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use time::OffsetDateTime;

use crate::nats::{Inbound, header_block_bytes};
use crate::telemetry::traces::Carried;
use crate::translate::envelope::JetStream;
use crate::translate::position::Position;

/// How many encoded forms are kept beside a message.
pub const FORMS: usize = 4;
/// What a message takes beside its bytes.
const OVERHEAD_BYTES: usize = 256;

/// What a stream knows of a message.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The stream's name.
    pub stream: Arc<str>,
    /// Where it stands.
    pub position: Position,
    /// When it was stored.
    pub time: OffsetDateTime,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// How many are still to come.
    pub pending: u64,
}

impl Stored {
    /// The same for an envelope.
    #[must_use]
    pub fn envelope(&self) -> JetStream<'_> {
        JetStream {
            stream: &self.stream,
            seq: self.position.seq,
            time: self.time,
            delivered: self.delivered,
            pending: self.pending,
            ack: None,
        }
    }
}

/// One message for many readers: encoded once for each form that somebody wants.
#[derive(Debug)]
pub struct Delivery {
    /// The message as it came.
    pub message: Inbound,
    /// Where it stands in its stream, if it was read from one.
    pub stored: Option<Stored>,
    /// When it came.
    pub arrived: Instant,
    carried: OnceLock<Carried>,
    forms: [OnceLock<Bytes>; FORMS],
}

impl Delivery {
    /// Wraps a message.
    #[must_use]
    pub fn new(message: Inbound) -> Self {
        Self {
            message,
            stored: None,
            arrived: Instant::now(),
            carried: OnceLock::new(),
            forms: [const { OnceLock::new() }; FORMS],
        }
    }

    /// Wraps a message that was read from a stream.
    #[must_use]
    pub fn from_stream(message: Inbound, stored: Stored) -> Self {
        Self {
            stored: Some(stored),
            ..Self::new(message)
        }
    }

    /// Its trace; read by the first who asks.
    pub fn carried(&self) -> &Carried {
        let headers = self.message.headers.as_ref();
        self.carried.get_or_init(|| Carried::of(headers))
    }

    /// The encoded form number `form` (below [`FORMS`]), made by the first who asks.
    pub fn encoded(&self, form: usize, encode: impl FnOnce(&Inbound) -> Bytes) -> Bytes {
        self.forms[form]
            .get_or_init(|| encode(&self.message))
            .clone()
    }

    /// What it counts against memory limits, in bytes.
    #[must_use]
    pub fn counted_bytes(&self) -> usize {
        let headers = self.message.headers.as_ref().map_or(0, header_block_bytes);
        self.message.payload.len() + self.message.subject.len() + headers + OVERHEAD_BYTES
    }
}
