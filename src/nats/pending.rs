//! What callers hold while their messages are on the way.

use std::sync::Arc;

use async_nats::{StatusCode, Subject};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::Connection;
use super::queue::{Entry, Load, Settle};
use super::replies::ReplySlot;
use super::subscription::Subscription;
use super::ticket::Ticket;
use super::{Failure, Inbound, Outbound, Refused, Reply};

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
        self.outcome_or_back(deadline).await.map_err(Failure::from)
    }

    /// The same, with a single message handed back that was not sent before the connection went.
    pub(super) async fn outcome_or_back(self, deadline: Instant) -> Result<(), Refused> {
        let outcome = self.ticket.outcome_by(deadline).await;
        outcome.map_err(|failure| match failure {
            Failure::Disconnected => Refused::disconnected(self.ticket.take_back()),
            Failure::PayloadTooLarge { .. } => {
                Failure::PayloadTooLarge { limit: self.limit }.into()
            }
            other => other.into(),
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
    pub async fn reply(self, deadline: Instant) -> Result<Reply, Failure> {
        self.reply_or_back(deadline).await.map_err(Failure::from)
    }

    /// The same, with the request handed back if it was not sent before the connection went.
    pub(super) async fn reply_or_back(self, deadline: Instant) -> Result<Reply, Refused> {
        let ticket = Arc::clone(&self.pending.ticket);
        self.pending.outcome_or_back(deadline).await?;
        Ok(ticket.take_reply().ok_or(Failure::Lost)?)
    }
}

/// Replies to one message, or what comes to one inbox. Dropping it ends the interest.
#[derive(Debug)]
pub struct Replies {
    pub(super) connection: Arc<Connection>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) source: Source,
}

/// Where replies come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The inbox that all requests of the connection share.
    Shared {
        slot: ReplySlot,
        receiver: mpsc::Receiver<Reply>,
    },
    /// An inbox of its own. JetStream delivers a message under the subject it was stored with, so
    /// only the subscription tells whose it is; and a server stops delivering where the
    /// subscription has ended.
    Own {
        subject: Subject,
        subscriber: Subscription,
        /// A connection that retires waits for its inboxes.
        _counted: Arc<()>,
    },
}

impl Replies {
    /// Where replies have to be sent to.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match &self.source {
            Source::Shared { slot, .. } => slot.subject(),
            Source::Own { subject, .. } => subject.clone(),
        }
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
        let waiting = Some(Arc::clone(&ticket));
        let entry = Entry::new(Load::One(message), waiting, Settle::Flush);
        self.connection
            .queue
            .push(entry.with_reply(self.subject()))?;
        ticket.outcome_by(deadline).await
    }

    /// The next reply, in the order of arrival.
    ///
    /// # Errors
    /// [`Failure::Timeout`] or [`Failure::NotSentInTime`] at `until`, or why no reply will come.
    pub async fn next(&mut self, until: Instant) -> Result<Reply, Failure> {
        let ticket = Arc::clone(&self.ticket);
        let closed = self.connection.signals.closed.clone();
        tokio::select! {
            biased;
            reply = self.source.next() => reply,
            outcome = std::future::poll_fn(|cx| ticket.poll_outcome(cx)) => Err(outcome.err().unwrap_or(Failure::Lost)),
            () = closed.cancelled() => Err(Failure::Lost),
            () = tokio::time::sleep_until(until) => {
                Err(if ticket.withdraw() { Failure::NotSentInTime } else { Failure::Timeout })
            }
        }
    }

    /// A reply that is there already.
    pub fn try_next(&mut self) -> Option<Reply> {
        match &mut self.source {
            Source::Shared { receiver, .. } => receiver.try_recv().ok(),
            Source::Own { subscriber, .. } => subscriber.next().now_or_never()?.map(unpaid),
        }
    }
}

impl Source {
    /// Never resolves for a shared inbox whose table let go of it: its ticket knows why.
    async fn next(&mut self) -> Result<Reply, Failure> {
        match self {
            Self::Shared { receiver, .. } => match receiver.recv().await {
                Some(reply) => Ok(reply),
                None => std::future::pending().await,
            },
            Self::Own { subscriber, .. } => match subscriber.next().await {
                Some(message) if is_no_responders(&message) => Err(Failure::NoResponders),
                message => message.map(unpaid).ok_or(Failure::Lost),
            },
        }
    }
}

/// Who asks for messages knows how many, and pays for them.
const fn unpaid(message: Inbound) -> Reply {
    Reply {
        message,
        held: None,
    }
}

fn is_no_responders(message: &Inbound) -> bool {
    message.status == Some(StatusCode::NO_RESPONDERS) && message.payload.is_empty()
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.ticket.withdraw();
    }
}
