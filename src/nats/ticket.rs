//! The claim on one message: whoever moves it out of `queued` first decides its outcome.
//!
//! The sender hands a message over by moving its ticket from queued to handed; a caller whose
//! deadline passed, or who left, takes it back by moving it from queued to withdrawn. Exactly one
//! of the two succeeds, so "not sent" is never a guess.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Failure, Outbound, Reply};
use crate::wake::within;

const QUEUED: u8 = 0;
const HANDED: u8 = 1;
const WITHDRAWN: u8 = 2;
const DONE: u8 = 3;
const LOST: u8 = 4;
const DISCONNECTED: u8 = 5;
const DENIED: u8 = 6;
const NO_RESPONDERS: u8 = 7;
const TOO_LARGE: u8 = 8;
const TOO_MANY: u8 = 9;
const NO_ROOM: u8 = 10;

/// How a ticket can end other than by being withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Confirmed, or replied to.
    Done,
    /// Handed over, then the connection went.
    Lost,
    /// Never handed over.
    Disconnected,
    /// The server refused it.
    Denied,
    /// Nobody listens.
    NoResponders,
    /// The client library found it larger than the server's limit.
    TooLarge,
    /// The caller's room for replies ran out.
    TooMany,
    /// The process has no room for the reply.
    NoRoom,
}

impl Verdict {
    const fn to_state(self) -> u8 {
        match self {
            Self::Done => DONE,
            Self::Lost => LOST,
            Self::Disconnected => DISCONNECTED,
            Self::Denied => DENIED,
            Self::NoResponders => NO_RESPONDERS,
            Self::TooLarge => TOO_LARGE,
            Self::TooMany => TOO_MANY,
            Self::NoRoom => NO_ROOM,
        }
    }

    const fn from_state(state: u8) -> Option<Result<(), Failure>> {
        match state {
            DONE => Some(Ok(())),
            LOST => Some(Err(Failure::Lost)),
            DISCONNECTED => Some(Err(Failure::Disconnected)),
            DENIED => Some(Err(Failure::PermissionDenied)),
            NO_RESPONDERS => Some(Err(Failure::NoResponders)),
            TOO_LARGE => Some(Err(Failure::PayloadTooLarge { limit: 0 })),
            TOO_MANY => Some(Err(Failure::TooManyReplies)),
            NO_ROOM => Some(Err(Failure::NoRoomForReply)),
            WITHDRAWN => Some(Err(Failure::NotSentInTime)),
            _ => None,
        }
    }
}

/// One message on its way, shared by its caller, the sender and whoever learns its outcome.
#[derive(Debug)]
pub(super) struct Ticket {
    state: AtomicU8,
    waker: AtomicWaker,
    carried: Mutex<Option<Carried>>,
}

/// What comes to the caller with the outcome.
#[derive(Debug)]
enum Carried {
    Reply(Reply),
    /// The message itself, which was not sent.
    Back(Outbound),
}

impl Ticket {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(QUEUED),
            waker: AtomicWaker::new(),
            carried: Mutex::new(None),
        })
    }

    /// The sender takes the message; false if the caller took it back before.
    pub(super) fn hand_over(&self) -> bool {
        self.state
            .compare_exchange(QUEUED, HANDED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The caller takes the message back; false if it was handed over or settled before.
    pub(super) fn withdraw(&self) -> bool {
        self.state
            .compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Settles it, unless it is settled or withdrawn already.
    pub(super) fn settle(&self, verdict: Verdict) {
        let settled = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                matches!(state, QUEUED | HANDED).then_some(verdict.to_state())
            });
        if settled.is_ok() {
            self.waker.wake();
        }
    }

    /// Settles it with what a lost connection means for it: unknown if it was handed over.
    pub(super) fn settle_disconnected(&self) {
        if self.state.load(Ordering::Acquire) == QUEUED {
            // A hand-over in between makes this "lost" below, which is the truth then.
            let untouched = self.state.compare_exchange(
                QUEUED,
                DISCONNECTED,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if untouched.is_ok() {
                self.waker.wake();
                return;
            }
        }
        self.settle(Verdict::Lost);
    }

    /// Settles it with a reply.
    pub(super) fn reply(&self, reply: Reply) {
        *self.carried.lock() = Some(Carried::Reply(reply));
        self.settle(Verdict::Done);
    }

    /// Settles it as not sent, and returns the message to a caller who still waits.
    pub(super) fn give_back(&self, message: Option<Outbound>) {
        if self.state.load(Ordering::Acquire) == QUEUED {
            *self.carried.lock() = message.map(Carried::Back);
        }
        self.settle(Verdict::Disconnected);
    }

    /// The outcome, once there is one.
    pub(super) fn poll_outcome(&self, cx: &Context<'_>) -> Poll<Result<(), Failure>> {
        if let Some(outcome) = Verdict::from_state(self.state.load(Ordering::Acquire)) {
            return Poll::Ready(outcome);
        }
        self.waker.register(cx.waker());
        Verdict::from_state(self.state.load(Ordering::Acquire)).map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits for the outcome until `deadline`, then takes the message back if that is still possible.
    pub(super) async fn outcome_by(&self, deadline: Instant) -> Result<(), Failure> {
        let guard = WithdrawOnDrop(self);
        match within(deadline, poll_fn(|cx| guard.0.poll_outcome(cx))).await {
            Some(outcome) => outcome,
            None if guard.0.withdraw() => Err(Failure::NotSentInTime),
            None => Verdict::from_state(guard.0.state.load(Ordering::Acquire))
                .unwrap_or(Err(Failure::Timeout)),
        }
    }

    /// The reply that settled it.
    pub(super) fn take_reply(&self) -> Option<Reply> {
        match self.carried.lock().take()? {
            Carried::Reply(reply) => Some(reply),
            Carried::Back(_) => None,
        }
    }

    /// The message, where it was given back.
    pub(super) fn take_back(&self) -> Option<Outbound> {
        match self.carried.lock().take()? {
            Carried::Back(message) => Some(message),
            Carried::Reply(_) => None,
        }
    }
}

/// A caller that leaves takes its message back if it still waits to be sent.
struct WithdrawOnDrop<'t>(&'t Ticket);

impl Drop for WithdrawOnDrop<'_> {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_deadline_before_the_hand_over_takes_the_message_back() {
        let ticket = Ticket::new();
        assert_eq!(ticket.outcome_by(soon()).await, Err(Failure::NotSentInTime));
        assert!(!ticket.hand_over(), "the sender must skip it");
    }

    #[tokio::test]
    async fn a_deadline_after_the_hand_over_leaves_the_outcome_open() {
        let ticket = Ticket::new();
        assert!(ticket.hand_over());
        assert_eq!(ticket.outcome_by(soon()).await, Err(Failure::Timeout));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_takes_the_message_back() {
        let ticket = Ticket::new();
        let waiting = tokio::time::timeout(
            Duration::from_millis(5),
            ticket.outcome_by(Instant::now() + Duration::from_secs(60)),
        );
        assert!(waiting.await.is_err());
        assert!(!ticket.hand_over());
    }

    #[tokio::test]
    async fn a_lost_connection_means_unknown_only_for_what_was_handed_over() {
        let (queued, handed) = (Ticket::new(), Ticket::new());
        assert!(handed.hand_over());
        queued.settle_disconnected();
        handed.settle_disconnected();
        assert_eq!(queued.outcome_by(soon()).await, Err(Failure::Disconnected));
        assert_eq!(handed.outcome_by(soon()).await, Err(Failure::Lost));
    }

    #[tokio::test]
    async fn the_first_verdict_stands() {
        let ticket = Ticket::new();
        assert!(ticket.hand_over());
        ticket.settle(Verdict::Denied);
        ticket.settle(Verdict::Done);
        assert_eq!(
            ticket.outcome_by(soon()).await,
            Err(Failure::PermissionDenied)
        );
    }
}
