//! The last messages of a feed, for all who read it, bounded in messages and bytes.
//!
//! A reader is a sequence. Whoever has read up to the beginning of the window or further finds
//! everything in it; whoever has not must catch up by other means. So nothing is ever lost here, and
//! how much is kept decides only how often somebody has to catch up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::api::notice::EndReason;
use crate::nats::{Budget, Delivery};

/// Enough for the second or two that a client needs to come back.
const MESSAGES: usize = 8192;
/// The same in bytes.
pub(super) const BYTES: usize = 4 << 20;
/// What a message takes of the budget, in multiples of its bytes: readers share an encoded form of
/// it, which is at least as long.
const WITH_ENCODED_FORM: usize = 2;
/// How much a reader takes at once: what was taken is not counted in the window any more, and a
/// reader that stops reading holds it.
const TAKE_MAX: usize = 64;
const TAKE_BYTES: usize = 16 * 1024;

/// What a reader comes by.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Message(u64, Arc<Delivery>),
    /// The stream has let go of these before they could be read.
    Trimmed(u64, u64),
    /// This one cannot be read, and is passed over.
    Unreadable(u64),
}

impl Slot {
    /// A message with its sequence.
    pub(super) fn message(delivery: Delivery) -> Self {
        let stored = delivery.stored.as_ref();
        let seq = stored.map_or(0, |stored| stored.position.seq);
        Self::Message(seq, Arc::new(delivery))
    }

    /// The position behind it.
    pub(super) const fn seq(&self) -> u64 {
        match self {
            Self::Message(seq, _) | Self::Unreadable(seq) => *seq,
            Self::Trimmed(_, to) => *to,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Message(_, delivery) => delivery.counted_bytes(),
            Self::Trimmed(..) | Self::Unreadable(_) => 0,
        }
    }
}

/// The memory that feeds may use: their own part of the process's budget for streams, so that what
/// can be read again never takes the room of what cannot.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    whole: Arc<Budget>,
    part: Arc<Budget>,
}

impl Memory {
    pub(super) fn half_of(whole: &Arc<Budget>) -> Self {
        Self {
            whole: Arc::clone(whole),
            part: Budget::new(whole.limit() / 2),
        }
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        self.part.set_limit(self.whole.limit() / 2);
        if !self.part.take(bytes) {
            return false;
        }
        let fits = self.whole.take(bytes);
        if !fits {
            self.part.give_back(bytes);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.part.give_back(bytes);
        self.whole.give_back(bytes);
    }
}

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Something was taken.
    Some,
    /// There is nothing for it up to this sequence.
    Nothing(u64),
    /// It has to catch up first.
    Overtaken,
}

/// The window, with the readers who wait at it.
#[derive(Debug)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// Everything after it, up to `high`, is here.
    low: u64,
    high: u64,
    /// How far the fastest reader has come.
    front: u64,
    bytes: usize,
    memory: Memory,
    waiting: Vec<Option<Waker>>,
    free: Vec<usize>,
    end: Option<EndReason>,
}

impl Window {
    pub(super) const fn new(begin: u64, memory: Memory) -> Self {
        Self {
            slots: VecDeque::new(),
            low: begin,
            high: begin,
            front: begin,
            bytes: 0,
            memory,
            waiting: Vec::new(),
            free: Vec::new(),
            end: None,
        }
    }

    pub(super) fn sit(&mut self) -> usize {
        if let Some(seat) = self.free.pop() {
            return seat;
        }
        self.waiting.push(None);
        self.waiting.len() - 1
    }

    pub(super) fn leave(&mut self, seat: usize) {
        self.waiting[seat] = None;
        self.free.push(seat);
    }

    pub(super) const fn readers(&self) -> usize {
        self.waiting.len() - self.free.len()
    }

    pub(super) const fn low(&self) -> u64 {
        self.low
    }

    pub(super) const fn high(&self) -> u64 {
        self.high
    }

    pub(super) const fn end(&self) -> Option<EndReason> {
        self.end
    }

    /// Nothing follows.
    pub(super) const fn set_end(&mut self, reason: EndReason) {
        self.end = Some(reason);
    }

    /// Adds at the end, and lets go of the oldest until the limits hold.
    pub(super) fn push(&mut self, slot: Slot) {
        if slot.seq() <= self.high {
            return;
        }
        self.high = slot.seq();
        let bytes = slot.bytes();
        while !self.slots.is_empty() && (self.slots.len() >= MESSAGES || self.bytes + bytes > BYTES)
        {
            self.drop_oldest();
        }
        while !self.memory.take(bytes * WITH_ENCODED_FORM) {
            if self.slots.is_empty() {
                self.low = self.high;
                return;
            }
            self.drop_oldest();
        }
        self.bytes += bytes;
        self.slots.push_back(slot);
    }

    /// There was nothing up to this sequence.
    pub(super) fn looked_at(&mut self, seq: u64) {
        self.high = self.high.max(seq);
    }

    /// Whether a reader at this position finds all that follows.
    pub(super) const fn covers(&self, position: u64) -> bool {
        position >= self.low
    }

    /// Takes what follows a position.
    pub(super) fn take(&mut self, position: u64, into: &mut VecDeque<Slot>) -> Found {
        if !self.covers(position) {
            return Found::Overtaken;
        }
        self.front = self.front.max(position);
        let first = self.slots.partition_point(|slot| slot.seq() <= position);
        let mut bytes = 0;
        for slot in self.slots.range(first..).take(TAKE_MAX) {
            bytes += slot.bytes();
            into.push_back(slot.clone());
            if bytes >= TAKE_BYTES {
                break;
            }
        }
        match into.back() {
            Some(last) => {
                self.front = self.front.max(last.seq());
                Found::Some
            }
            None => Found::Nothing(self.high),
        }
    }

    /// Whether more should come: not while what is here already waits for the fastest reader.
    pub(super) fn has_room(&self) -> bool {
        let first = self.slots.partition_point(|slot| slot.seq() <= self.front);
        let unread = self.slots.len() - first;
        if unread < MESSAGES / 4 {
            let bytes: usize = self.slots.range(first..).map(Slot::bytes).sum();
            return bytes < BYTES / 2;
        }
        false
    }

    /// Wants to be woken when there is more.
    pub(super) fn wait(&mut self, seat: usize, waker: &Waker) {
        match &mut self.waiting[seat] {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// All who wait.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.waiting.iter_mut().filter_map(Option::take).collect()
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.low = slot.seq();
            self.bytes -= slot.bytes();
            self.memory.give_back(slot.bytes() * WITH_ENCODED_FORM);
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes * WITH_ENCODED_FORM);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::nats::Inbound;

    fn message(seq: u64, bytes: usize) -> Slot {
        let message = Inbound {
            subject: "a".into(),
            reply: None,
            payload: Bytes::from(vec![b'x'; bytes]),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        Slot::Message(seq, Arc::new(Delivery::new(message)))
    }

    fn window(budget_bytes: usize) -> (Window, Arc<Budget>) {
        let budget = Budget::new(budget_bytes);
        (Window::new(10, Memory::half_of(&budget)), budget)
    }

    fn seqs(window: &mut Window, position: u64) -> Vec<u64> {
        let mut taken = VecDeque::new();
        window.take(position, &mut taken);
        taken.iter().map(Slot::seq).collect()
    }

    #[test]
    fn a_reader_finds_what_follows_its_position() {
        let (mut window, _budget) = window(1 << 20);
        for seq in [12, 15, 20] {
            window.push(message(seq, 1));
        }
        window.push(message(15, 1));
        assert_eq!(seqs(&mut window, 10), [12, 15, 20]);
        assert_eq!(seqs(&mut window, 13), [15, 20]);
        assert_eq!(seqs(&mut window, 15), [20]);
        let mut taken = VecDeque::new();
        assert_eq!(window.take(20, &mut taken), Found::Nothing(20));
        window.looked_at(40);
        window.looked_at(30);
        assert_eq!(window.take(20, &mut taken), Found::Nothing(40));
        assert_eq!(window.take(9, &mut taken), Found::Overtaken);
    }

    #[test]
    fn a_reader_behind_the_window_is_told_to_catch_up() {
        let (mut window, budget) = window(8 * (BYTES + (1 << 20)));
        for seq in 11..=11 + MESSAGES as u64 {
            window.push(message(seq, 0));
        }
        assert!(!window.covers(10));
        assert!(window.covers(11));
        window.push(message(1_000_000, BYTES));
        assert_eq!(window.low(), 11 + MESSAGES as u64);
        let low = window.low();
        assert_eq!(seqs(&mut window, low), [1_000_000]);
        assert!(budget.used() >= 2 * BYTES);
        drop(window);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_finds_no_memory_is_left_to_those_who_catch_up() {
        let (mut window, budget) = window(4000);
        window.push(message(11, 10));
        window.push(message(12, 2000));
        assert_eq!((window.low(), window.high()), (12, 12));
        assert_eq!(budget.used(), 0);
        window.push(message(13, 10));
        assert_eq!(seqs(&mut window, 12), [13]);
    }

    #[test]
    fn nothing_is_fetched_that_nobody_is_near_to_reading() {
        let (mut window, _budget) = window(1 << 26);
        assert!(window.has_room());
        window.push(message(11, BYTES / 2));
        assert!(!window.has_room());
        assert_eq!(seqs(&mut window, 10), [11]);
        assert!(window.has_room());
    }

    proptest! {
        #[test]
        fn whoever_is_not_told_to_catch_up_misses_nothing(
            steps in prop::collection::vec((1u64..4, 0usize..700, 0usize..3), 1..300),
        ) {
            let (mut window, budget) = window(40_000);
            let (mut seq, mut pushed) = (10, Vec::new());
            let mut readers = [10u64; 2];
            for (more, bytes, reads) in steps {
                seq += more;
                window.push(message(seq, bytes));
                pushed.push(seq);
                for (reader, position) in readers.iter_mut().enumerate() {
                    if reads <= reader { continue; }
                    let mut taken = VecDeque::new();
                    match window.take(*position, &mut taken) {
                        Found::Overtaken => *position = window.low(),
                        _ => {
                            let expected: Vec<u64> =
                                pushed.iter().copied().filter(|s| s > position).take(taken.len()).collect();
                            let found: Vec<u64> = taken.iter().map(Slot::seq).collect();
                            prop_assert_eq!(&found, &expected);
                            *position = found.last().copied().unwrap_or(*position);
                        }
                    }
                }
                prop_assert!(budget.used() <= budget.limit() / 2);
            }
            drop(window);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
