//! The ring of one subject: what its readers have not all read yet, bounded in messages and bytes.
//!
//! Readers have a cursor each. Whoever is overtaken by the end of the ring has lost what fell off,
//! and the difference of two numbers tells how much. Nobody else notices.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::budget::Budget;
use super::delivery::Delivery;
use super::reader::GapReason;

/// The limits of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Messages a reader may lag behind.
    pub messages: usize,
    /// Bytes a reader may lag behind.
    pub bytes: usize,
}

/// What lies in a ring.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Message(Arc<Delivery>),
    Gap(GapReason),
}

/// What a message takes of the process's budget, in multiples of its bytes: readers share an encoded
/// form of it, which is at least as long.
const WITH_ENCODED_FORM: usize = 2;

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(delivery) => delivery.counted_bytes(),
            Self::Gap(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Seat {
    cursor: u64,
    waker: Option<Waker>,
}

/// What a reader finds at its cursor.
#[derive(Debug)]
pub(super) enum Found {
    /// That many messages fell off before the reader came.
    Lost(u64),
    Slot(Slot),
    Nothing,
}

/// The ring with the seats of its readers.
#[derive(Debug)]
pub(super) struct Ring {
    slots: VecDeque<Slot>,
    first: u64,
    bytes: usize,
    limits: Buffer,
    budget: Arc<Budget>,
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    readers: usize,
    /// Readers with nothing more to read. When these are all, nothing need be kept: what everybody has
    /// read would take memory away from subjects that somebody still has to read.
    caught_up: usize,
}

impl Ring {
    pub(super) fn new(limits: Buffer, budget: Arc<Budget>) -> Self {
        budget.enter();
        Self {
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            limits,
            budget,
            seats: Vec::new(),
            free: Vec::new(),
            readers: 0,
            caught_up: 0,
        }
    }

    /// A seat for a reader who starts with the next message; none after the last one has left.
    pub(super) fn sit(&mut self) -> Option<usize> {
        (self.readers > 0).then(|| self.sit_first())
    }

    /// Holds for all readers what the most patient of them asks for.
    pub(super) fn widen(&mut self, asked: Buffer) {
        self.limits.messages = self.limits.messages.max(asked.messages);
        self.limits.bytes = self.limits.bytes.max(asked.bytes);
    }

    /// A seat for the first reader.
    pub(super) fn sit_first(&mut self) -> usize {
        let seat = Seat {
            cursor: self.end(),
            waker: None,
        };
        self.readers += 1;
        self.caught_up += 1;
        if let Some(index) = self.free.pop() {
            self.seats[index] = Some(seat);
            return index;
        }
        self.seats.push(Some(seat));
        self.seats.len() - 1
    }

    /// Gives a seat back; true if nobody is left.
    pub(super) fn leave(&mut self, seat: usize) -> bool {
        let left = self.seats[seat].take();
        self.free.push(seat);
        self.readers -= 1;
        if left.is_some_and(|left| left.cursor == self.end()) {
            self.caught_up -= 1;
        }
        self.drop_what_nobody_needs();
        self.readers == 0
    }

    /// Adds at the end, and lets go of the oldest until the limits hold.
    pub(super) fn push(&mut self, slot: Slot) {
        let bytes = slot.bytes();
        self.caught_up = 0;
        if self.is_over(bytes) {
            self.drop_what_all_have_read();
        }
        while !self.slots.is_empty() && self.is_over(bytes) {
            self.drop_oldest();
        }
        while !self
            .budget
            .take_for(self.bytes * WITH_ENCODED_FORM, bytes * WITH_ENCODED_FORM)
        {
            if self.slots.is_empty() {
                // Not even one message is left for us: it is lost like one that fell off.
                self.first += 1;
                return;
            }
            self.drop_oldest();
        }
        self.bytes += bytes;
        self.slots.push_back(slot);
    }

    /// Wakes all who wait.
    pub(super) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        into.extend(
            self.seats
                .iter_mut()
                .flatten()
                .filter_map(|seat| seat.waker.take()),
        );
    }

    /// What lies at the cursor of a seat, which moves on.
    pub(super) fn next(&mut self, seat: usize) -> Found {
        let (first, end) = (self.first, self.end());
        let Some(seat) = self.seats[seat].as_mut() else {
            return Found::Nothing;
        };
        if seat.cursor < first {
            let lost = first - seat.cursor;
            seat.cursor = first;
            if first == end {
                self.caught_up += 1;
            }
            return Found::Lost(lost);
        }
        if seat.cursor == end {
            return Found::Nothing;
        }
        let index = usize::try_from(seat.cursor - first).unwrap_or(usize::MAX);
        seat.cursor += 1;
        let is_last = seat.cursor == end;
        let found = self.slots.get(index).cloned();
        if is_last {
            self.caught_up += 1;
            self.drop_what_nobody_needs();
        }
        found.map_or(Found::Nothing, Found::Slot)
    }

    /// Wants to be woken when there is more.
    pub(super) fn wait(&mut self, seat: usize, waker: &Waker) {
        if let Some(seat) = self.seats[seat].as_mut() {
            match &mut seat.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn is_over(&self, more_bytes: usize) -> bool {
        self.slots.len() >= self.limits.messages || self.bytes + more_bytes > self.limits.bytes
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.first += 1;
            self.bytes -= slot.bytes();
            self.budget.give_back(slot.bytes() * WITH_ENCODED_FORM);
        }
    }

    fn drop_what_nobody_needs(&mut self) {
        if self.caught_up == self.readers {
            let bytes = std::mem::take(&mut self.bytes);
            self.budget.give_back(bytes * WITH_ENCODED_FORM);
            self.first += self.slots.len() as u64;
            self.slots.clear();
        }
    }

    /// Costs a look at every seat, so it is done only when a limit is reached.
    pub(super) fn drop_what_all_have_read(&mut self) {
        let slowest = self
            .seats
            .iter()
            .flatten()
            .map(|seat| seat.cursor)
            .min()
            .unwrap_or(u64::MAX);
        while self.first < slowest && !self.slots.is_empty() {
            self.drop_oldest();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes * WITH_ENCODED_FORM);
        self.budget.leave();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::nats::Inbound;

    fn message(bytes: usize) -> Slot {
        let payload = Bytes::from(vec![b'x'; bytes]);
        let message = Inbound {
            subject: "a".into(),
            reply: None,
            payload,
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        Slot::Message(Arc::new(Delivery::new(message)))
    }

    fn ring(messages: usize, bytes: usize) -> Ring {
        Ring::new(Buffer { messages, bytes }, Budget::new(1 << 30))
    }

    #[test]
    fn a_slow_reader_learns_how_much_it_lost_and_a_fast_one_loses_nothing() {
        let mut ring = ring(4, 1 << 20);
        let (slow, fast) = (ring.sit_first(), ring.sit().unwrap());
        for _ in 0..10 {
            ring.push(message(1));
            assert!(matches!(ring.next(fast), Found::Slot(_)));
        }
        assert!(matches!(ring.next(slow), Found::Lost(6)));
        assert_eq!(
            (0..4)
                .filter(|_| matches!(ring.next(slow), Found::Slot(_)))
                .count(),
            4
        );
        assert!(matches!(ring.next(slow), Found::Nothing));
    }

    #[test]
    fn a_reader_that_asks_for_more_gets_it_and_one_that_asks_for_less_takes_nothing_away() {
        let mut ring = ring(2, 10_000);
        let first = ring.sit_first();
        for (messages, bytes, held) in [(5, 10_000, 5), (3, 200_000, 5), (8, 1, 8)] {
            ring.widen(Buffer { messages, bytes });
            while !matches!(ring.next(first), Found::Nothing) {}
            for _ in 0..10 {
                ring.push(message(1000));
            }
            let lost = 10 - held;
            assert!(matches!(ring.next(first), Found::Lost(n) if n == lost));
        }
    }

    #[test]
    fn what_is_dropped_is_given_back_to_the_process() {
        let budget = Budget::new(10_000);
        let mut ring = Ring::new(
            Buffer {
                messages: 100,
                bytes: 1 << 20,
            },
            Arc::clone(&budget),
        );
        let reader = ring.sit_first();
        for _ in 0..100 {
            ring.push(message(1000));
            assert!(budget.used() <= 10_000);
        }
        assert!(matches!(ring.next(reader), Found::Lost(92..)));
        drop(ring);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_whose_readers_keep_up_finds_room_beside_those_whose_do_not() {
        let budget = Budget::new(1 << 20);
        let limits = Buffer {
            messages: 10_000,
            bytes: 1 << 20,
        };
        let mut stalled: Vec<_> = (0..9)
            .map(|_| Ring::new(limits, Arc::clone(&budget)))
            .collect();
        let mut read = Ring::new(limits, Arc::clone(&budget));
        for ring in &mut stalled {
            ring.sit_first();
        }
        let reader = read.sit_first();
        for _ in 0..1000 {
            for ring in &mut stalled {
                ring.push(message(1000));
            }
            read.push(message(1000));
            assert!(matches!(read.next(reader), Found::Slot(_)));
            assert!(budget.used() <= 1 << 20);
        }
        drop(stalled);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_everybody_has_read_takes_no_memory() {
        let budget = Budget::new(10_000);
        let limits = Buffer {
            messages: 100,
            bytes: 1 << 20,
        };
        let mut ring = Ring::new(limits, Arc::clone(&budget));
        let (one, two) = (ring.sit_first(), ring.sit().unwrap());
        for _ in 0..3 {
            ring.push(message(1000));
        }
        while matches!(ring.next(one), Found::Slot(_)) {}
        assert!(budget.used() > 3000);
        for _ in 0..3 {
            assert!(matches!(ring.next(two), Found::Slot(_)));
        }
        assert_eq!(budget.used(), 0);
        ring.push(message(1000));
        assert!(matches!(ring.next(one), Found::Slot(_)));
        assert!(budget.used() > 0);
        assert!(!ring.leave(two));
        assert_eq!(budget.used(), 0);
        ring.push(message(10_001));
        assert!(matches!(ring.next(one), Found::Lost(1)));
        assert!(matches!(ring.next(one), Found::Nothing));
    }

    proptest! {
        #[test]
        fn nobody_misses_what_another_has_read(steps in prop::collection::vec((0usize..3, 0usize..4, 0usize..300), 1..200)) {
            let mut ring = ring(8, 4096);
            let seats = [ring.sit_first(), ring.sit().unwrap(), ring.sit().unwrap()];
            let (mut pushed, mut seen) = (0u64, [0u64; 3]);
            let mut read = |ring: &mut Ring, who: usize| match ring.next(seats[who]) {
                Found::Lost(lost) => { seen[who] += lost; true }
                Found::Slot(_) => { seen[who] += 1; true }
                Found::Nothing => false,
            };
            for (who, reads, bytes) in steps {
                ring.push(message(bytes));
                pushed += 1;
                for _ in 0..reads { read(&mut ring, who); }
            }
            for who in 0..3 { while read(&mut ring, who) {} }
            prop_assert_eq!(seen, [pushed; 3]);
            prop_assert_eq!(ring.budget.used(), 0);
        }

        #[test]
        fn read_and_lost_add_up_to_what_was_pushed(steps in prop::collection::vec((0usize..4, 0usize..300), 1..200)) {
            let mut ring = ring(8, 4096);
            let seat = ring.sit_first();
            let (mut pushed, mut seen) = (0u64, 0u64);
            let mut read = |ring: &mut Ring| match ring.next(seat) {
                Found::Lost(lost) => { seen += lost; true }
                Found::Slot(_) => { seen += 1; true }
                Found::Nothing => false,
            };
            for (reads, bytes) in steps {
                ring.push(message(bytes));
                pushed += 1;
                for _ in 0..reads { read(&mut ring); }
            }
            while read(&mut ring) {}
            prop_assert_eq!(pushed, seen);
        }
    }
}
