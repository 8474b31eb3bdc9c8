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
/// So many more may be sent by themselves, for those that are late. All their echoes fit the channel.
const LATE_FENCES_MAX: usize = 48;
/// How long a fence may take before another is sent behind it, to the other marker.
const LATE: Duration = Duration::from_millis(500);
/// How many events async-nats keeps for us; it drops what does not fit.
const CHANNEL_CAPACITY: u64 = 128;

/// Somebody who waits for a fence with a message to a subject, or with several that share a fate.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) subject: Subject,
    pub(super) messages: usize,
    pub(super) ticket: Arc<Ticket>,
}

/// The tickets that one fence settles.
#[derive(Debug)]
struct Fence {
    /// Which marker it went to.
    marker: usize,
    waiters: Vec<Waiter>,
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
    pub(super) fn register(&self, waiters: Vec<Waiter>, messages: usize) -> usize {
        let mut state = self.state.lock();
        let marker = state.next_marker();
        if state.failed {
            drop(state);
            waiters
                .iter()
                .for_each(|waiter| waiter.ticket.settle_disconnected());
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
            for waiter in &fence.waiters {
                waiter.ticket.settle(verdict);
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
        for waiter in waiters.filter(|waiter| waiter.subject.as_str() == subject) {
            waiter.ticket.settle(verdict);
        }
    }

    /// How many messages to `subject` wait for a fence.
    pub(super) fn waiting_for(&self, subject: &str) -> usize {
        let state = self.state.lock();
        let waiters = state.fences.iter().flat_map(|fence| &fence.waiters);
        let of_it = waiters.filter(|waiter| waiter.subject.as_str() == subject);
        of_it.map(|waiter| waiter.messages).sum()
    }

    /// The connection is gone: nobody knows what became of what was handed over.
    pub(super) fn fail_all(&self) {
        let fences = {
            let mut state = self.state.lock();
            state.failed = true;
            state.messages = 0;
            std::mem::take(&mut state.fences)
        };
        for waiter in fences.iter().flat_map(|fence| &fence.waiters) {
            waiter.ticket.settle_disconnected();
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
                let may_go_alone = state.fences.len() < FENCES_MAX + LATE_FENCES_MAX;
                if may_go_alone && std::mem::take(&mut state.is_late) {
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
mod tests;
