//! A received message and its encoded forms, shared by all who read it.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::nats::{Inbound, header_block_bytes};

/// How many encoded forms are kept beside a message.
pub const FORMS: usize = 4;
/// What a message takes beside its bytes.
const OVERHEAD_BYTES: usize = 256;

/// One message for many readers: encoded once for each form that somebody wants.
#[derive(Debug)]
pub struct Delivery {
    /// The message as it came.
    pub message: Inbound,
    forms: [OnceLock<Bytes>; FORMS],
}

impl Delivery {
    /// Wraps a message.
    #[must_use]
    pub const fn new(message: Inbound) -> Self {
        Self {
            message,
            forms: [const { OnceLock::new() }; FORMS],
        }
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
