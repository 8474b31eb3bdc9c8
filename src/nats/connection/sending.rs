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
        let entry = Entry::new(Load::One(message), None, Settle::Flush);
        self.queue.push(entry)
    }

    /// Queues a message whose outcome is known when the server has read it.
    pub(in crate::nats) fn confirm(&self, message: Outbound) -> Result<Pending, Refused> {
        if !self.rights.can_fence() {
            return Err(Failure::ConfirmUnavailable.into());
        }
        self.check(&message)?;
        let ticket = Ticket::new();
        let waiting = Some(Arc::clone(&ticket));
        let entry = Entry::new(Load::One(message), waiting, Settle::Fence);
        self.queue.push(entry)?;
        Ok(Pending {
            ticket,
            limit: self.client.max_payload(),
        })
    }

    /// Queues a run of messages that share a fate, at once and in order, and empties it; `bytes` is what
    /// they count in a queue ([`bytes_in_queue`](crate::nats::bytes_in_queue)). Where the server may deny
    /// messages unexpectedly ([`Self::is_uncertain`]) a run must be a single message, or nobody
    /// could tell which one was denied.
    ///
    /// # Errors
    /// Nothing was sent, and the run is as it was: no right to a fence, a full queue, or no connection any
    /// more. Each message should have passed [`Self::check`] before.
    pub fn begin_run(
        &self,
        run: &mut Vec<Outbound>,
        bytes: usize,
        confirm: RunConfirm,
    ) -> Result<Pending, Failure> {
        let settle = match confirm {
            RunConfirm::Flushed => Settle::Flush,
            RunConfirm::Server if self.rights.can_fence() => Settle::Fence,
            RunConfirm::Server => return Err(Failure::ConfirmUnavailable),
        };
        let ticket = Ticket::new();
        self.queue
            .push_run(run, bytes, Arc::clone(&ticket), settle)?;
        Ok(Pending {
            ticket,
            limit: self.client.max_payload(),
        })
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
        self.queue.push(Entry::fence(Arc::clone(&ticket)))?;
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
        let all = self.begin_run(&mut Vec::new(), 0, RunConfirm::Flushed)?;
        all.outcome(deadline).await?;
        self.settle(self.signals.fences.events(), deadline).await
    }
}
