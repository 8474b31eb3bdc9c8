//! Which messages are read: those of one creation of one stream, with some subjects.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Api;
use super::look::{Look, Retention};
use super::window::Slot;
use crate::nats::{Call, Delivery, Inbound, Stored};
use crate::subject::{Name, SubjectPattern};
use crate::translate::ack_token::Delivered;
use crate::translate::position::{Position, Tag};

/// How long a stream is asked for a message.
const ASKING: Duration = Duration::from_secs(5);

/// What readers have in common who may share a feed.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) stream: Name,
    /// The same for every message.
    shown: Arc<str>,
    /// None: every message. Sorted, so that the same set is the same.
    pub(super) filters: Vec<SubjectPattern>,
    pub(super) tag: Tag,
    pub(super) is_single: bool,
    pub(super) is_interest: bool,
    trims: bool,
    per_subject: bool,
}

impl Selection {
    pub(super) fn new(stream: &Name, mut filters: Vec<SubjectPattern>, look: &Look) -> Self {
        filters.sort();
        Self {
            stream: stream.clone(),
            shown: stream.as_str().into(),
            filters,
            tag: look.tag,
            is_single: look.is_single,
            is_interest: look.retention == Retention::Interest,
            trims: look.trims,
            per_subject: look.per_subject,
        }
    }

    /// Whether the stream must be asked why sequences are missing before this one: they may have been
    /// deleted, which is no gap, or trimmed, which is one. Where messages only go for others of their
    /// subject, holes are what the stream is made of.
    pub(super) const fn is_suspicious(&self, position: u64, seq: u64) -> bool {
        let is_usual = self.per_subject && !self.trims;
        self.filters.is_empty() && seq > position.saturating_add(1) && !is_usual
    }

    /// Whether the stream must be asked now and then, because with a filter sequences are missing
    /// anyway.
    pub(super) const fn hides_trimming(&self) -> bool {
        !self.filters.is_empty() && self.trims
    }

    /// What the stream has let go of after a position and before a sequence.
    pub(super) fn trimmed(&self, position: u64, before: u64, look: &Look) -> Option<Slot> {
        let to = look.first_seq.min(before) - 1;
        (look.tag == self.tag && to > position).then(|| Slot::Trimmed(position + 1, to))
    }

    /// The message after a position, where it is one that cannot be read.
    pub(super) async fn unreadable(&self, api: &Api, position: u64) -> Option<Slot> {
        let call = Call {
            deadline: Instant::now() + ASKING,
            wait: true,
        };
        let filters: Vec<&str> = self.filters.iter().map(SubjectPattern::as_str).collect();
        let next = api.next_stored(self.stream.as_str(), &filters, position, call);
        let next = next.await.ok()??;
        (!next.is_readable).then_some(Slot::Unreadable(next.seq))
    }

    /// The position at a sequence.
    pub(super) const fn at(&self, seq: u64) -> Position {
        Position { seq, tag: self.tag }
    }

    /// A message with what the reply subject says of it, and its number in the consumer; nothing
    /// where it is none of a consumer.
    pub(super) fn delivery(&self, message: Inbound) -> Option<(u64, Delivery)> {
        let reply = message.reply.clone()?;
        let delivered = Delivered::parse(&reply)?;
        let stored = Stored {
            stream: Arc::clone(&self.shown),
            position: self.at(delivered.seq),
            time: delivered.time,
            delivered: delivered.delivered,
            pending: delivered.pending,
        };
        Some((
            delivered.consumer_seq,
            Delivery::from_stream(message, stored),
        ))
    }
}
