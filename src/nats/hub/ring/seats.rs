//! The seats of a ring's readers: how far each has come, and whom to wake.

use std::task::Waker;

use crate::nats::hub::reader::GapReason;

#[derive(Debug)]
struct Seat {
    cursor: u64,
    waker: Option<Waker>,
    /// What fell off before its reader came, and is no message: how many gaps, and their reasons.
    gaps: u64,
    reasons: Vec<GapReason>,
}

/// The seats. What is called the end is the end of the ring, where a reader has nothing more to read.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    taken: usize,
    /// Readers at the end. Counted, so that it costs no look at every seat when these are all.
    caught_up: usize,
}

impl Seats {
    pub(super) const fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// A seat for a reader who starts at the end.
    pub(super) fn sit(&mut self, end: u64) -> usize {
        let seat = Seat {
            cursor: end,
            waker: None,
            gaps: 0,
            reasons: Vec::new(),
        };
        self.taken += 1;
        self.caught_up += 1;
        if let Some(index) = self.free.pop() {
            self.seats[index] = Some(seat);
            return index;
        }
        self.seats.push(Some(seat));
        self.seats.len() - 1
    }

    pub(super) fn leave(&mut self, seat: usize, end: u64) {
        let left = self.seats[seat].take();
        self.free.push(seat);
        self.taken -= 1;
        if left.is_some_and(|left| left.cursor == end) {
            self.caught_up -= 1;
        }
    }

    /// The end has moved on.
    pub(super) const fn fall_behind(&mut self) {
        self.caught_up = 0;
    }

    pub(super) const fn have_all_caught_up(&self) -> bool {
        self.caught_up == self.taken
    }

    /// How far one has come; nothing where nobody sits.
    pub(super) fn cursor(&self, seat: usize) -> Option<u64> {
        Some(self.seats[seat].as_ref()?.cursor)
    }

    /// Moves one on, who was not at the end; true if it is there now.
    pub(super) fn move_on(&mut self, seat: usize, to: u64, end: u64) -> bool {
        if let Some(seat) = &mut self.seats[seat] {
            seat.cursor = to;
        }
        let has_caught_up = to == end;
        self.caught_up += usize::from(has_caught_up);
        has_caught_up
    }

    /// A gap falls off: whoever has not come to it is told its reason later, once.
    pub(super) fn overtake(&mut self, at: u64, reason: GapReason) {
        let behind = self.seats.iter_mut().flatten();
        for seat in behind.filter(|seat| seat.cursor <= at) {
            seat.gaps += 1;
            if !seat.reasons.contains(&reason) {
                seat.reasons.push(reason);
            }
        }
    }

    /// How many gaps fell off before one came to them, since it was asked last.
    pub(super) fn take_gaps(&mut self, seat: usize) -> u64 {
        let seat = self.seats[seat].as_mut();
        seat.map_or(0, |seat| std::mem::take(&mut seat.gaps))
    }

    /// A reason of theirs that one has not been told.
    pub(super) fn take_reason(&mut self, seat: usize) -> Option<GapReason> {
        self.seats[seat].as_mut()?.reasons.pop()
    }

    /// How far the slowest has come; a look at every seat.
    pub(super) fn slowest(&self) -> Option<u64> {
        let cursors = self.seats.iter().flatten().map(|seat| seat.cursor);
        cursors.min()
    }

    /// One wants to be woken when there is more.
    pub(super) fn wait(&mut self, seat: usize, waker: &Waker) {
        if let Some(seat) = self.seats[seat].as_mut() {
            match &mut seat.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    /// All who want to be woken, once each.
    pub(super) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        into.extend(
            self.seats
                .iter_mut()
                .flatten()
                .filter_map(|seat| seat.waker.take()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_is_given_back_is_taken_by_the_next_reader() {
        let mut seats = Seats::default();
        let (first, second) = (seats.sit(3), seats.sit(3));
        seats.leave(first, 3);
        assert_eq!(seats.sit(7), first);
        assert_eq!(
            (seats.cursor(first), seats.cursor(second)),
            (Some(7), Some(3))
        );
        assert_eq!(seats.slowest(), Some(3));
        seats.leave(first, 7);
        seats.leave(second, 7);
        assert!(seats.is_empty());
        assert_eq!((seats.cursor(first), seats.slowest()), (None, None));
    }

    #[test]
    fn all_have_caught_up_when_the_last_is_at_the_end() {
        let mut seats = Seats::default();
        let (fast, slow) = (seats.sit(0), seats.sit(0));
        assert!(seats.have_all_caught_up());
        seats.fall_behind();
        assert!(seats.move_on(fast, 2, 2));
        assert!(!seats.move_on(slow, 1, 2));
        assert!(!seats.have_all_caught_up());
        seats.leave(slow, 2);
        assert!(seats.have_all_caught_up());
    }

    #[test]
    fn who_waits_is_woken_once() {
        let mut seats = Seats::default();
        let (one, _other) = (seats.sit(0), seats.sit(0));
        seats.wait(one, Waker::noop());
        seats.wait(one, Waker::noop());
        let mut woken = Vec::new();
        seats.take_wakers(&mut woken);
        seats.take_wakers(&mut woken);
        assert_eq!(woken.len(), 1);
    }
}
