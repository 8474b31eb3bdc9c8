//! The ring of one subject: what its readers have not all read yet, bounded in messages and bytes.
//!
//! Readers have a cursor each. Whoever is overtaken by the end of the ring has lost what fell off,
//! and the difference of two numbers tells how much. Nobody else notices. A gap that falls off is told
//! all the same.

mod seats;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::budget::Budget;
use super::delivery::Delivery;
use super::reader::GapReason;
use seats::Seats;

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
    seats: Seats,
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
            seats: Seats::default(),
        }
    }

    /// A seat for a reader who starts with the next message; none after the last one has left.
    pub(super) fn sit(&mut self) -> Option<usize> {
        (!self.seats.is_empty()).then(|| self.sit_first())
    }

    /// Holds for all readers what the most patient of them asks for.
    pub(super) fn widen(&mut self, asked: Buffer) {
        self.limits.messages = self.limits.messages.max(asked.messages);
        self.limits.bytes = self.limits.bytes.max(asked.bytes);
    }

    /// A seat for the first reader.
    pub(super) fn sit_first(&mut self) -> usize {
        self.seats.sit(self.end())
    }

    /// Gives a seat back; true if nobody is left.
    pub(super) fn leave(&mut self, seat: usize) -> bool {
        self.seats.leave(seat, self.end());
        self.drop_what_nobody_needs();
        self.seats.is_empty()
    }

    /// Adds at the end, and lets go of the oldest until the limits hold.
    pub(super) fn push(&mut self, slot: Slot) {
        let bytes = slot.bytes();
        self.seats.fall_behind();
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
                return self.fall_off(&slot);
            }
            self.drop_oldest();
        }
        self.bytes += bytes;
        self.slots.push_back(slot);
    }

    /// Wakes all who wait.
    pub(super) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        self.seats.take_wakers(into);
    }

    /// What lies at the cursor of a seat, which moves on.
    pub(super) fn next(&mut self, seat: usize) -> Found {
        let (first, end) = (self.first, self.end());
        let Some(cursor) = self.seats.cursor(seat) else {
            return Found::Nothing;
        };
        if cursor < first {
            self.seats.move_on(seat, first, end);
            let messages = first - cursor - self.seats.take_gaps(seat);
            if messages > 0 {
                return Found::Lost(messages);
            }
        }
        if let Some(reason) = self.seats.take_reason(seat) {
            return Found::Slot(Slot::Gap(reason));
        }
        if cursor == end {
            return Found::Nothing;
        }
        let index = usize::try_from(cursor - first).unwrap_or(usize::MAX);
        let found = self.slots.get(index).cloned();
        if self.seats.move_on(seat, cursor + 1, end) {
            self.drop_what_nobody_needs();
        }
        found.map_or(Found::Nothing, Found::Slot)
    }

    /// Wants to be woken when there is more.
    pub(super) fn wait(&mut self, seat: usize, waker: &Waker) {
        self.seats.wait(seat, waker);
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn is_over(&self, more_bytes: usize) -> bool {
        self.slots.len() >= self.limits.messages || self.bytes + more_bytes > self.limits.bytes
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.fall_off(&slot);
            self.bytes -= slot.bytes();
            self.budget.give_back(slot.bytes() * WITH_ENCODED_FORM);
        }
    }

    /// The slot that was the first is not there any more. Of a gap, which comes seldom, the reason stays
    /// with those who have not read it.
    fn fall_off(&mut self, slot: &Slot) {
        if let Slot::Gap(reason) = slot {
            self.seats.overtake(self.first, *reason);
        }
        self.first += 1;
    }

    /// What everybody has read would take memory away from subjects that somebody still has to read.
    fn drop_what_nobody_needs(&mut self) {
        if self.seats.have_all_caught_up() {
            let bytes = std::mem::take(&mut self.bytes);
            self.budget.give_back(bytes * WITH_ENCODED_FORM);
            self.first += self.slots.len() as u64;
            self.slots.clear();
        }
    }

    /// Costs a look at every seat, so it is done only when a limit is reached.
    pub(super) fn drop_what_all_have_read(&mut self) {
        let slowest = self.seats.slowest().unwrap_or(u64::MAX);
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
mod tests;
