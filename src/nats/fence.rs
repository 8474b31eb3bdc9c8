//! The fence behind `confirm=server`: one round trip on a link confirms everything sent before it.
//!
//! async-nats shows neither PING nor PONG, and permission errors reach us through its channel of
//! events while messages reach us through their subscriptions, so an echo of our own could overtake
//! an error that the server sent before it. Therefore the echo is made to travel in the channel of
//! events, too: a subscription (the marker) is left full for ever, so that each message to it
//! becomes the event `SlowConsumer(sid)`. The server handles a connection's messages in order;
//! hence when the event for a fence is seen, all errors for messages before it have been seen.
//!
//! The channel holds 128 events and drops what does not fit. A dropped marker only delays: the next
//! one settles the older fence. A dropped error would be a lie. So events are counted: where one was
//! dropped, a full channel of others came between the fence's messages and its marker, and the fence
//! does not say yes. It would seldom say yes where every message may be denied; there, at most
//! [`UNCERTAIN_WINDOW`] messages are under way at once and the channel cannot overflow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Subject;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ticket::{Ticket, Verdict};

/// How many messages may be under way between two settled fences where each could be denied.
pub(super) const UNCERTAIN_WINDOW: usize = 96;
/// How many fences may be under way: their events, and the errors between them, fit the channel.
const FENCES_MAX: usize = 24;
/// So many more may be sent by themselves, for those that are late.
const LATE_FENCES_MAX: usize = 4;
/// How long a fence may take before another is sent behind it: should its echo have been dropped, the
/// next one settles it.
const LATE: Duration = Duration::from_millis(500);
/// How many events async-nats keeps for us; it drops what does not fit.
const CHANNEL_CAPACITY: u64 = 128;

/// The tickets that one fence settles.
#[derive(Debug)]
struct Fence {
    waiters: Vec<(Subject, Arc<Ticket>)>,
    messages: usize,
    sent: Instant,
    /// How many events had come by then.
    events: u64,
}

#[derive(Debug, Default)]
struct State {
    fences: VecDeque<Fence>,
    messages: usize,
    failed: bool,
    /// Echoes may have been dropped: a fence alone may go, for the oldest.
    is_late: bool,
}

impl State {
    fn oldest_is_late(&self) -> bool {
        let oldest = self.fences.front();
        oldest.is_some_and(|fence| fence.sent.elapsed() > LATE)
    }
}

/// The fences under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Fences {
    state: Mutex<State>,
    armed: AtomicBool,
    settled: Notify,
    events: AtomicU64,
}

impl Fences {
    /// The marker is full: from now on its events settle fences.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Counts an event of any kind, before it is looked at.
    pub(super) fn count_event(&self) {
        self.events.fetch_add(1, Ordering::AcqRel);
    }

    /// How many events have come.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Acquire)
    }

    /// Whether an event may have been dropped since there were `before` of them: the channel was full
    /// then, and all that was in it has come since.
    pub(super) fn may_have_dropped_since(&self, before: u64) -> bool {
        self.events() - before >= CHANNEL_CAPACITY
    }

    /// Registers a fence before its messages are handed over, so that an early error finds them.
    pub(super) fn register(&self, waiters: Vec<(Subject, Arc<Ticket>)>, messages: usize) {
        let mut state = self.state.lock();
        if state.failed {
            drop(state);
            waiters
                .iter()
                .for_each(|(_, ticket)| ticket.settle_disconnected());
            return;
        }
        state.messages += messages;
        state.fences.push_back(Fence {
            waiters,
            messages,
            sent: Instant::now(),
            events: self.events(),
        });
    }

    /// A marker event: the oldest fence has come back. Returns its age.
    pub(super) fn settle_oldest(&self) -> Option<Duration> {
        let fence = {
            let mut state = self.state.lock();
            let fence = state.fences.pop_front()?;
            state.messages -= fence.messages;
            // Where one echo was dropped, more may have been.
            state.is_late = state.oldest_is_late();
            fence
        };
        let verdict = if self.may_have_dropped_since(fence.events) {
            Verdict::Lost
        } else {
            Verdict::Done
        };
        for (_, ticket) in &fence.waiters {
            ticket.settle(verdict);
        }
        self.settled.notify_one();
        Some(fence.sent.elapsed())
    }

    /// The server denied a message to `subject`.
    pub(super) fn deny(&self, subject: &str) {
        let state = self.state.lock();
        let waiters = state.fences.iter().flat_map(|fence| &fence.waiters);
        for (_, ticket) in waiters.filter(|(of, _)| of.as_str() == subject) {
            ticket.settle(Verdict::Denied);
        }
    }

    /// The connection is gone: nobody knows what became of what was handed over.
    pub(super) fn fail_all(&self) {
        let fences = {
            let mut state = self.state.lock();
            state.failed = true;
            state.messages = 0;
            std::mem::take(&mut state.fences)
        };
        for (_, ticket) in fences.iter().flat_map(|fence| &fence.waiters) {
            ticket.settle_disconnected();
        }
        self.settled.notify_one();
    }

    /// How many messages may be handed over now; waits while it is none. 0 where those under way are late:
    /// then a fence goes alone, because no caller's message shall wait for, or be unknown with, what is lost.
    pub(super) async fn room(&self, uncertain: bool) -> usize {
        loop {
            {
                let mut state = self.state.lock();
                let under_way = if uncertain { state.messages } else { 0 };
                let fences = state.fences.len();
                if state.failed || (fences < FENCES_MAX && under_way < UNCERTAIN_WINDOW) {
                    return match uncertain {
                        true => UNCERTAIN_WINDOW - under_way,
                        false => usize::MAX,
                    };
                }
                if fences < FENCES_MAX + LATE_FENCES_MAX && std::mem::take(&mut state.is_late) {
                    return 0;
                }
            }
            self.settled.notified().await;
        }
    }

    /// Whether the oldest is late; if so, a fence may go alone for it, even where there is no room.
    pub(super) fn look_for_late(&self) -> bool {
        let mut state = self.state.lock();
        state.is_late = state.oldest_is_late();
        if state.is_late {
            self.settled.notify_one();
        }
        state.is_late
    }

    /// Whether another fence may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.state.lock().fences.len() < FENCES_MAX
    }

    /// How many fences are under way.
    pub(super) fn under_way(&self) -> usize {
        self.state.lock().fences.len()
    }

    /// How long the oldest fence has been under way.
    pub(super) fn oldest_age(&self) -> Option<Duration> {
        self.state
            .lock()
            .fences
            .front()
            .map(|fence| fence.sent.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::Failure;

    fn waiter(subject: &'static str) -> (Subject, Arc<Ticket>) {
        let ticket = Ticket::new();
        assert!(ticket.hand_over());
        (Subject::from_static(subject), ticket)
    }

    async fn outcome(ticket: &Arc<Ticket>) -> Result<(), Failure> {
        ticket
            .outcome_by(Instant::now() + Duration::from_millis(10))
            .await
    }

    #[tokio::test]
    async fn a_marker_settles_the_oldest_fence_alone() {
        let fences = Fences::default();
        let (first, second) = (waiter("a"), waiter("a"));
        fences.register(vec![first.clone()], 1);
        fences.register(vec![second.clone()], 1);
        assert!(fences.settle_oldest().is_some());
        assert_eq!(outcome(&first.1).await, Ok(()));
        assert_eq!(outcome(&second.1).await, Err(Failure::Timeout));
    }

    #[tokio::test]
    async fn a_denied_message_is_never_confirmed() {
        let fences = Fences::default();
        let (denied, allowed) = (waiter("no"), waiter("yes"));
        fences.register(vec![denied.clone(), allowed.clone()], 2);
        fences.deny("no");
        fences.settle_oldest();
        assert_eq!(outcome(&denied.1).await, Err(Failure::PermissionDenied));
        assert_eq!(outcome(&allowed.1).await, Ok(()));
    }

    #[tokio::test]
    async fn nothing_is_confirmed_where_a_denial_may_have_been_dropped() {
        let fences = Fences::default();
        let (crowded, next) = (waiter("a"), waiter("a"));
        fences.register(vec![crowded.clone()], 1);
        for _ in 0..CHANNEL_CAPACITY {
            fences.count_event();
        }
        fences.register(vec![next.clone()], 1);
        for _ in 1..CHANNEL_CAPACITY {
            fences.count_event();
        }
        fences.settle_oldest();
        fences.settle_oldest();
        assert_eq!(outcome(&crowded.1).await, Err(Failure::Lost));
        assert_eq!(outcome(&next.1).await, Ok(()), "the channel was not full");
    }

    #[tokio::test]
    async fn what_comes_after_the_connection_went_is_not_left_waiting() {
        let fences = Fences::default();
        fences.fail_all();
        let late = waiter("a");
        fences.register(vec![late.clone()], 1);
        assert_eq!(outcome(&late.1).await, Err(Failure::Lost));
    }

    #[tokio::test]
    async fn where_messages_may_be_denied_few_are_under_way_at_once() {
        let fences = Fences::default();
        fences.register(vec![waiter("a")], UNCERTAIN_WINDOW);
        let waiting = tokio::time::timeout(Duration::from_millis(10), fences.room(true)).await;
        assert!(waiting.is_err());
        fences.settle_oldest();
        assert_eq!(fences.room(true).await, UNCERTAIN_WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn where_echoes_were_dropped_fences_go_alone_one_after_the_other() {
        let fences = Fences::default();
        fences.register(vec![waiter("a")], 1);
        fences.register(vec![waiter("a")], UNCERTAIN_WINDOW);
        let blocked = || tokio::time::timeout(Duration::from_millis(10), fences.room(true));
        assert!(!fences.look_for_late());
        assert!(blocked().await.is_err());
        tokio::time::advance(LATE * 2).await;
        assert!(fences.look_for_late());
        assert_eq!(fences.room(true).await, 0);
        fences.register(Vec::new(), 0);
        assert!(blocked().await.is_err(), "one is enough until it is back");
        fences.settle_oldest();
        assert_eq!(fences.room(true).await, 0, "the next one is late, too");
        fences.register(Vec::new(), 0);
        fences.settle_oldest();
        assert_eq!(fences.room(true).await, UNCERTAIN_WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stands_still_gets_few_fences_more() {
        let fences = Fences::default();
        (0..FENCES_MAX).for_each(|_| fences.register(vec![waiter("a")], 1));
        for _ in 0..LATE_FENCES_MAX {
            tokio::time::advance(LATE * 2).await;
            assert!(fences.look_for_late());
            assert_eq!(fences.room(false).await, 0);
            fences.register(Vec::new(), 0);
        }
        assert!(fences.look_for_late());
        let more = tokio::time::timeout(Duration::from_millis(10), fences.room(false));
        assert!(more.await.is_err());
    }
}
