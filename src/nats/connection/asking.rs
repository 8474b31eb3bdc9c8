//! Messages that are answered: over the inbox that all of them share, or one of their own.

use std::sync::Arc;

use async_nats::Subject;
use tokio::sync::mpsc;

use super::Connection;
use crate::nats::pending::{Pending, PendingReply, Replies, Source};
use crate::nats::queue::{Entry, Load, Settle};
use crate::nats::ticket::Ticket;
use crate::nats::{Failure, Outbound, Refused};

impl Connection {
    /// Queues a message at once, in the order of the calls; its reply is waited for later.
    ///
    /// # Errors
    /// Nothing was sent: what [`Self::check`] says, no right to read the inbox, or a full queue.
    pub fn begin_request(&self, message: Outbound) -> Result<PendingReply, Failure> {
        self.ask(message).map_err(Failure::from)
    }

    /// The same, with the message handed back where it may be sent over another connection.
    pub(in crate::nats) fn ask(&self, message: Outbound) -> Result<PendingReply, Refused> {
        self.check_reply(&message)?;
        let ticket = Ticket::new();
        let slot = self
            .signals
            .replies
            .expect(Some(message.subject.clone()), &ticket, None);
        self.send_with_reply(message, slot.subject(), &ticket)?;
        Ok(PendingReply {
            _slot: slot,
            pending: Pending {
                ticket,
                limit: self.client.max_payload(),
            },
        })
    }

    /// Sends a message whose replies come one by one; at most `capacity` wait to be read.
    pub(in crate::nats) fn request_many(
        self: &Arc<Self>,
        message: Outbound,
        capacity: usize,
    ) -> Result<Replies, Refused> {
        self.check_reply(&message)?;
        let replies = self.expect_many(Some(message.subject.clone()), capacity);
        self.send_with_reply(message, replies.subject(), &replies.ticket)?;
        Ok(replies)
    }

    /// An inbox of its own, for whoever sends there by other means, such as a pull consumer.
    pub(in crate::nats) async fn inbox(self: &Arc<Self>) -> Result<Replies, Failure> {
        if !self.rights.read {
            return Err(Failure::PermissionDenied);
        }
        let subject = self.own_subject('i');
        let subscriber = self.subscribe(subject.clone(), None).await?.0;
        let ticket = Ticket::new();
        ticket.hand_over();
        Ok(Replies {
            connection: Arc::clone(self),
            ticket,
            source: Source::Own {
                subject,
                subscriber,
                _counted: Arc::clone(&self.inboxes),
            },
        })
    }

    fn expect_many(self: &Arc<Self>, subject: Option<Subject>, capacity: usize) -> Replies {
        let ticket = Ticket::new();
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let slot = self.signals.replies.expect(subject, &ticket, Some(sender));
        Replies {
            connection: Arc::clone(self),
            ticket,
            source: Source::Shared { slot, receiver },
        }
    }

    fn check_reply(&self, message: &Outbound) -> Result<(), Failure> {
        if !self.rights.read {
            return Err(Failure::PermissionDenied);
        }
        self.check(message)
    }

    fn send_with_reply(
        &self,
        message: Outbound,
        reply: Subject,
        ticket: &Arc<Ticket>,
    ) -> Result<(), Refused> {
        let ticket = Some(Arc::clone(ticket));
        let entry = Entry::new(Load::One(message), ticket, Settle::Reply);
        self.queue.push(entry.with_reply(reply))
    }
}
