//! The way of a batch over one link.

use std::sync::Arc;

use crate::nats::{Connection, Link, Outbound};

/// What is handed over to a connection at once. Were it more, a lost connection could leave more
/// than this unknown.
const RUN_BYTES_MAX: usize = 64 * 1024;
const RUN_MESSAGES_MAX: usize = 512;

/// What a message takes in a queue beside its bytes.
const MESSAGE_BYTES: usize = 96;

/// The bytes that a message counts in a window.
pub(super) fn weight(message: &Outbound) -> usize {
    message.counted_bytes() + message.subject.len() + MESSAGE_BYTES
}

/// Messages that are sent together and share a fate.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) messages: Vec<Outbound>,
    pub(super) lines: Vec<u64>,
    pub(super) weight: usize,
}

impl Run {
    /// Whether a message may still join.
    pub(super) fn fits(&self, weight: usize) -> bool {
        self.messages.is_empty()
            || (self.weight + weight <= RUN_BYTES_MAX && self.messages.len() < RUN_MESSAGES_MAX)
    }

    pub(super) fn push(&mut self, line: u64, message: Outbound) {
        self.weight += weight(&message);
        self.messages.push(message);
        self.lines.push(line);
    }
}

/// One link, the connection it had last, and the run that is being filled.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) link: Arc<Link>,
    pub(super) connection: Arc<Connection>,
    pub(super) run: Run,
}
