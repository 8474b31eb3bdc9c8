//! What callers hold while their messages are on the way.

use std::sync::Arc;

use async_nats::Subject;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::Connection;
use super::queue::{Entry, Load, Settle};
use super::replies::ReplySlot;
use super::ticket::Ticket;
use super::{Failure, Inbound, Outbound};

/// What a run of messages waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunConfirm {
    /// That it was written to the socket.
    Flushed,
    /// That the server has read it.
    Server,
}

/// Messages on their way. Dropping it takes back what has not been sent.
#[derive(Debug)]
pub struct Pending {
    pub(super) ticket: Arc<Ticket>,
    pub(super) limit: usize,
}

impl Pending {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// What [`Failure`] says of all of them.
    pub async fn outcome(self, deadline: Instant) -> Result<(), Failure> {
        self.ticket
            .outcome_by(deadline)
            .await
            .map_err(|failure| match failure {
                Failure::PayloadTooLarge { .. } => Failure::PayloadTooLarge { limit: self.limit },
                other => other,
            })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.ticket.withdraw();
    }
}

/// A request on its way. Dropping it takes it back if it has not been sent, and forgets the reply.
#[derive(Debug)]
pub struct PendingReply {
    pub(super) _slot: ReplySlot,
    pub(super) pending: Pending,
}

impl PendingReply {
    /// Waits for the reply.
    ///
    /// # Errors
    /// What [`Failure`] says.
    pub async fn reply(self, deadline: Instant) -> Result<Inbound, Failure> {
        let ticket = Arc::clone(&self.pending.ticket);
        self.pending.outcome(deadline).await?;
        ticket.take_reply().ok_or(Failure::Lost)
    }
}

/// Replies to one message, or what comes to one inbox. Dropping it ends the interest.
#[derive(Debug)]
pub struct Replies {
    pub(super) connection: Arc<Connection>,
    pub(super) slot: ReplySlot,
    pub(super) ticket: Arc<Ticket>,
    pub(super) receiver: mpsc::Receiver<Inbound>,
}

impl Replies {
    /// Where replies have to be sent to.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.slot.subject()
    }

    /// The connection it lives on.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Sends a message with this inbox as its reply subject, and waits until it is on its way.
    ///
    /// # Errors
    /// As for any message; the inbox stays usable after all but a lost connection.
    pub async fn send(&self, message: Outbound, deadline: Instant) -> Result<(), Failure> {
        self.connection.check(&message)?;
        let ticket = Ticket::new();
        let entry = Entry {
            load: Load::One(message),
            reply: Some(self.slot.subject()),
            ticket: Some(Arc::clone(&ticket)),
            settle: Settle::Flush,
        };
        self.connection.queue.push(entry)?;
        ticket.outcome_by(deadline).await
    }

    /// The next reply, in the order of arrival.
    ///
    /// # Errors
    /// [`Failure::Timeout`] or [`Failure::NotSentInTime`] at `until`, or why no reply will come.
    pub async fn next(&mut self, until: Instant) -> Result<Inbound, Failure> {
        let ticket = Arc::clone(&self.ticket);
        tokio::select! {
            biased;
            Some(message) = self.receiver.recv() => Ok(message),
            outcome = std::future::poll_fn(|cx| ticket.poll_outcome(cx)) => Err(outcome.err().unwrap_or(Failure::Lost)),
            () = tokio::time::sleep_until(until) => {
                Err(if ticket.withdraw() { Failure::NotSentInTime } else { Failure::Timeout })
            }
        }
    }

    /// A reply that is there already.
    pub fn try_next(&mut self) -> Option<Inbound> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.ticket.withdraw();
    }
}
