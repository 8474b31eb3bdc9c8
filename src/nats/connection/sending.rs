//! Messages go out, and the fences behind them.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep};

use super::Connection;
use crate::nats::pending::{Pending, RunConfirm};
use crate::nats::queue::{Entry, Load, Settle};
use crate::nats::ticket::Ticket;
use crate::nats::{Failure, Outbound, Refused};

/// How soon a full queue is looked at again.
const FULL_AGAIN: Duration = Duration::from_millis(5);

impl Connection {
    /// Takes a message that nobody waits for.
    pub(in crate::nats) fn accept(&self, message: Outbound) -> Result<(), Refused> {
        self.check(&message)?;
        self.queue.push(Entry {
            load: Load::One(message),
            reply: None,
            ticket: None,
            settle: Settle::Flush,
        })
    }

    /// Queues a message whose outcome is known when the server has read it.
    pub(in crate::nats) fn confirm(&self, message: Outbound) -> Result<Pending, Refused> {
        if !self.rights.can_fence() {
            return Err(Failure::ConfirmUnavailable.into());
        }
        self.check(&message)?;
        let ticket = Ticket::new();
        let entry = Entry {
            load: Load::One(message),
            reply: None,
            ticket: Some(Arc::clone(&ticket)),
            settle: Settle::Fence,
        };
        self.queue.push(entry)?;
        Ok(Pending {
            ticket,
            limit: self.client.max_payload(),
        })
    }

    /// Queues a run of messages that share a fate, at once and in order. Where the server may deny
    /// messages unexpectedly ([`Self::is_uncertain`]) a run must be a single message, or nobody
    /// could tell which one was denied.
    ///
    /// # Errors
    /// Nothing was sent: no right to a fence, a full queue, or no connection any more. Each message
    /// should have passed [`Self::check`] before.
    pub fn begin_run(
        &self,
        messages: Vec<Outbound>,
        confirm: RunConfirm,
    ) -> Result<Pending, Failure> {
        let settle = match confirm {
            RunConfirm::Flushed => Settle::Flush,
            RunConfirm::Server if self.rights.can_fence() => Settle::Fence,
            RunConfirm::Server => return Err(Failure::ConfirmUnavailable),
        };
        let ticket = Ticket::new();
        let pending = Pending {
            ticket: Arc::clone(&ticket),
            limit: self.client.max_payload(),
        };
        let load = Load::Many(messages);
        self.queue.push(Entry {
            load,
            reply: None,
            ticket: Some(ticket),
            settle,
        })?;
        Ok(pending)
    }

    /// Waits until everything sent before has been read by the server.
    ///
    /// # Errors
    /// No right to a fence, or the connection was lost, or the deadline passed.
    pub async fn fence(&self, deadline: Instant) -> Result<(), Failure> {
        if !self.rights.can_fence() {
            return Err(Failure::ConfirmUnavailable);
        }
        let ticket = Ticket::new();
        let entry = Entry {
            load: Load::Many(Vec::new()),
            reply: None,
            ticket: Some(Arc::clone(&ticket)),
            settle: Settle::Fence,
        };
        self.queue.push(entry)?;
        ticket.outcome_by(deadline).await
    }

    /// Waits until the server has read everything that was taken over before, whatever rights there
    /// are, and also for room to ask in.
    pub(in crate::nats) async fn drain(&self, deadline: Instant) -> Result<(), Failure> {
        loop {
            match self.drain_once(deadline).await {
                Err(Failure::BufferFull) if Instant::now() < deadline => sleep(FULL_AGAIN).await,
                done => return done,
            }
        }
    }

    async fn drain_once(&self, deadline: Instant) -> Result<(), Failure> {
        if self.rights.can_fence() {
            return self.fence(deadline).await;
        }
        let all = self.begin_run(Vec::new(), RunConfirm::Flushed)?;
        all.outcome(deadline).await?;
        self.settle(self.signals.fences.events(), deadline).await
    }
}
