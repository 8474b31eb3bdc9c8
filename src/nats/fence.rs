//! The fence behind `confirm=server`: one round trip on a link confirms everything sent before it.
//!
//! async-nats shows neither PING nor PONG, and permission errors reach us through its channel of
//! events while messages reach us through their subscriptions, so an echo of our own could overtake
//! an error that the server sent before it. Therefore the echo is made to travel in the channel of
//! events, too: a subscription (the marker) is left full for ever, so that each message to it
//! becomes the event `SlowConsumer(sid)`. The server handles a connection's messages in order;
//! hence when the event for a fence is seen, all errors for messages before it have been seen.
//!
//! The channel holds 128 events and drops what does not fit. A dropped error would be a lie. So events are
//! counted: where one was dropped, a full channel of others came between the fence's messages and its
//! marker, and the fence does not say yes. It would seldom say yes where every message may be denied;
//! there, at most [`UNCERTAIN_WINDOW`] messages are under way at once and the channel cannot overflow.
//!
//! A dropped echo delays: echoes do not tell which fence they belong to, so each that comes settles the
//! oldest, and the newest would wait for ever. Therefore there are two markers. Where an echo may have been
//! dropped, the next fence goes to the other one: its echo proves that all before it have come or never will.

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
/// How long a fence may take before another is sent behind it, to the other marker.
const LATE: Duration = Duration::from_millis(500);
/// How many events async-nats keeps for us; it drops what does not fit.
const CHANNEL_CAPACITY: u64 = 128;

/// The tickets that one fence settles.
#[derive(Debug)]
struct Fence {
    /// Which marker it went to.
    marker: usize,
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
    /// Where fences go.
    marker: usize,
    /// An echo may have been dropped.
    is_doubtful: bool,
    /// A fence alone may go, even where there is no room.
    is_late: bool,
}

impl State {
    /// The marker for the next fence. Another one than before only where none of its fences is under way,
    /// so that no echo can be taken for that of a later fence.
    fn next_marker(&mut self) -> usize {
        let oldest = self.fences.front();
        if self.is_doubtful && oldest.is_some_and(|fence| fence.marker == self.marker) {
            self.marker ^= 1;
            self.is_doubtful = false;
        }
        self.marker
    }

    fn pop(&mut self) -> Option<Fence> {
        let fence = self.fences.pop_front()?;
        self.messages -= fence.messages;
        Some(fence)
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

    /// Registers a fence before its messages are handed over, so that an early error finds them. Returns
    /// the marker it has to go to.
    pub(super) fn register(&self, waiters: Vec<(Subject, Arc<Ticket>)>, messages: usize) -> usize {
        let mut state = self.state.lock();
        let marker = state.next_marker();
        if state.failed {
            drop(state);
            waiters
                .iter()
                .for_each(|(_, ticket)| ticket.settle_disconnected());
            return marker;
        }
        state.messages += messages;
        state.fences.push_back(Fence {
            marker,
            waiters,
            messages,
            sent: Instant::now(),
            events: self.events(),
        });
        marker
    }

    /// A marker's event: the oldest fence that went to it has come back, and with it all before that.
    /// Returns its age.
    pub(super) fn came_back(&self, marker: usize) -> Option<Duration> {
        loop {
            let (fence, verdict) = self.take_oldest(marker)?;
            for (_, ticket) in &fence.waiters {
                ticket.settle(verdict);
            }
            self.settled.notify_one();
            if fence.marker == marker {
                return Some(fence.sent.elapsed());
            }
        }
    }

    /// The oldest fence, if one that went to `marker` is under way.
    fn take_oldest(&self, marker: usize) -> Option<(Fence, Verdict)> {
        let mut state = self.state.lock();
        if !state.fences.iter().any(|fence| fence.marker == marker) {
            return None;
        }
        let fence = state.pop()?;
        let verdict = match self.may_have_dropped_since(fence.events) {
            true => Verdict::Lost,
            false => Verdict::Done,
        };
        state.is_doubtful |= verdict == Verdict::Lost;
        state.is_doubtful &= !state.fences.is_empty();
        Some((fence, verdict))
    }

    /// The server denied a message to `subject`.
    pub(super) fn deny(&self, subject: &str, verdict: Verdict) {
        let state = self.state.lock();
        let waiters = state.fences.iter().flat_map(|fence| &fence.waiters);
        for (_, ticket) in waiters.filter(|(of, _)| of.as_str() == subject) {
            ticket.settle(verdict);
        }
    }

    /// How many messages to `subject` wait for a fence.
    pub(super) fn waiting_for(&self, subject: &str) -> usize {
        let state = self.state.lock();
        let waiters = state.fences.iter().flat_map(|fence| &fence.waiters);
        waiters.filter(|(of, _)| of.as_str() == subject).count()
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

    /// How many messages may be handed over now; waits while it is none. [`usize::MAX`] unless `uncertain`,
    /// else as many as may be denied and still be told apart. 0 where those under way are late: then a fence
    /// goes alone, because no caller's message shall wait for, or be unknown with, what is lost.
    pub(super) async fn room(&self, uncertain: &AtomicBool) -> usize {
        loop {
            {
                let mut state = self.state.lock();
                let room = match uncertain.load(Ordering::Acquire) {
                    true => UNCERTAIN_WINDOW.saturating_sub(state.messages),
                    false => usize::MAX,
                };
                let has_room = state.fences.len() < FENCES_MAX && room > 0;
                if state.failed || has_room {
                    return room.max(1);
                }
                if std::mem::take(&mut state.is_late) {
                    return 0;
                }
            }
            self.settled.notified().await;
        }
    }

    /// Whether the oldest is late; if so, a fence may go alone for it, even where there is no room.
    pub(super) fn look_for_late(&self) -> bool {
        let mut state = self.state.lock();
        let oldest = state.fences.front();
        state.is_late = oldest.is_some_and(|fence| fence.sent.elapsed() > LATE);
        state.is_doubtful |= state.is_late;
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
        assert!(fences.came_back(0).is_some());
        assert_eq!(outcome(&first.1).await, Ok(()));
        assert_eq!(outcome(&second.1).await, Err(Failure::Timeout));
    }

    #[tokio::test]
    async fn a_denied_message_is_never_confirmed() {
        let fences = Fences::default();
        let (denied, allowed) = (waiter("no"), waiter("yes"));
        fences.register(vec![denied.clone(), allowed.clone()], 2);
        fences.deny("no", Verdict::Denied);
        fences.came_back(0);
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
        fences.came_back(0);
        fences.came_back(0);
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

    const CERTAIN: AtomicBool = AtomicBool::new(false);
    const UNCERTAIN: AtomicBool = AtomicBool::new(true);

    async fn is_blocked(fences: &Fences, uncertain: &AtomicBool) -> bool {
        let room = fences.room(uncertain);
        tokio::time::timeout(Duration::from_millis(10), room)
            .await
            .is_err()
    }

    /// A fence that is sent alone since the oldest is late; returns its marker.
    async fn late_fence(fences: &Fences) -> usize {
        tokio::time::sleep(LATE * 2).await;
        assert!(fences.look_for_late());
        fences.register(Vec::new(), 0)
    }

    #[tokio::test]
    async fn where_messages_may_be_denied_few_are_under_way_at_once() {
        let fences = Fences::default();
        fences.register(vec![waiter("a")], UNCERTAIN_WINDOW);
        assert!(is_blocked(&fences, &UNCERTAIN).await);
        fences.came_back(0);
        assert_eq!(fences.room(&UNCERTAIN).await, UNCERTAIN_WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn one_late_fence_settles_all_whose_echoes_were_dropped() {
        let fences = Fences::default();
        let lost: Vec<_> = (0..FENCES_MAX).map(|_| waiter("a")).collect();
        for waiter in &lost {
            assert_eq!(fences.register(vec![waiter.clone()], 4), 0);
        }
        assert!(is_blocked(&fences, &CERTAIN).await);
        assert!(!fences.look_for_late());
        tokio::time::sleep(LATE * 2).await;
        assert!(fences.look_for_late());
        assert_eq!(fences.room(&UNCERTAIN).await, 0);
        assert!(is_blocked(&fences, &UNCERTAIN).await, "one is enough");
        assert_eq!(fences.register(Vec::new(), 0), 1);
        assert!(fences.came_back(1).is_some());
        for (_, ticket) in &lost {
            assert_eq!(outcome(ticket).await, Ok(()));
        }
        assert_eq!(fences.under_way(), 0);
        assert_eq!(fences.room(&UNCERTAIN).await, UNCERTAIN_WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_dropped_echo_each_fence_waits_for_its_own_again() {
        let fences = Fences::default();
        fences.register(Vec::new(), 0);
        assert_eq!(late_fence(&fences).await, 1);
        fences.came_back(1);
        let (next, after) = (waiter("a"), waiter("a"));
        let marker = fences.register(vec![next.clone()], 1);
        fences.register(vec![after.clone()], 1);
        fences.came_back(marker);
        assert_eq!(outcome(&next.1).await, Ok(()));
        assert_eq!(outcome(&after.1).await, Err(Failure::Timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_that_was_only_slow_settles_its_own_fence_alone() {
        let fences = Fences::default();
        let (slow, behind) = (waiter("a"), waiter("a"));
        fences.register(vec![slow.clone()], 1);
        assert_eq!(late_fence(&fences).await, 1);
        assert_eq!(fences.register(vec![behind.clone()], 1), 1);
        fences.came_back(0);
        assert_eq!(outcome(&slow.1).await, Ok(()));
        fences.came_back(1);
        assert_eq!(outcome(&behind.1).await, Err(Failure::Timeout));
        assert!(fences.came_back(0).is_none(), "it has come back before");
        fences.came_back(1);
        assert_eq!(fences.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_fence_whose_echo_is_dropped_is_followed_by_others_until_one_is_back() {
        let fences = Fences::default();
        fences.register(Vec::new(), 0);
        assert_eq!(late_fence(&fences).await, 1);
        assert_eq!(late_fence(&fences).await, 1, "the first marker is not free");
        fences.came_back(1);
        assert_eq!(fences.under_way(), 1, "that of the second is left");
        assert_eq!(late_fence(&fences).await, 0);
        fences.came_back(0);
        assert_eq!(fences.under_way(), 0);
    }

    #[tokio::test]
    async fn whoever_may_have_lost_an_error_may_have_lost_an_echo() {
        let fences = Fences::default();
        fences.register(Vec::new(), 0);
        fences.register(Vec::new(), 0);
        for _ in 0..CHANNEL_CAPACITY {
            fences.count_event();
        }
        fences.came_back(0);
        assert_eq!(fences.register(Vec::new(), 0), 1);
        fences.came_back(1);
        assert_eq!(fences.under_way(), 0);
    }
}
