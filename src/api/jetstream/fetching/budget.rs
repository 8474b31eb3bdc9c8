//! How much of an answer there is, how much may still come, and the memory for both.

use crate::layers::memory::Drawn;

/// The most bytes of messages in one answer.
pub(in crate::api::jetstream) const BYTES_MAX: u64 = 8 << 20;

/// The budget of one fetch.
#[derive(Debug)]
pub(super) struct Budget {
    messages_max: usize,
    bytes_max: u64,
    memory: Drawn,
    messages: usize,
    bytes: u64,
    /// What they have become.
    json_bytes: u64,
    last_bytes: u64,
}

impl Budget {
    pub(super) fn new(messages_max: usize, bytes_max: Option<u64>, memory: Drawn) -> Self {
        Self {
            messages_max,
            bytes_max: bytes_max.unwrap_or(BYTES_MAX).min(BYTES_MAX),
            memory,
            messages: 0,
            bytes: 0,
            json_bytes: 0,
            last_bytes: 0,
        }
    }

    /// Memory for a message, from what was drawn for its pull as far as that goes; false where there is
    /// none.
    pub(super) fn draw(&mut self, bytes: u64, pull: Option<&mut Drawn>) -> bool {
        let taken = pull.map_or(0, |pull| self.memory.take_over(pull, bytes));
        taken == bytes || self.memory.more(bytes - taken)
    }

    /// One message more, whose memory has been drawn.
    pub(super) const fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
        self.last_bytes = bytes;
    }

    /// The last message has become so many bytes of JSON. False where there is no memory for what it has
    /// grown by: then it does not count.
    pub(super) fn wrote(&mut self, json_bytes: u64, pull: Option<&mut Drawn>) -> bool {
        // As long as others are to come, what its pull has drawn is for them.
        let pull = pull.filter(|_| self.messages_left() == 0);
        if !self.draw(json_bytes.saturating_sub(self.last_bytes), pull) {
            self.messages -= 1;
            return false;
        }
        self.json_bytes += json_bytes;
        true
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether the answer is as long as one may be.
    pub(super) const fn is_full(&self) -> bool {
        self.json_bytes >= BYTES_MAX
    }

    pub(super) const fn messages_left(&self) -> usize {
        self.messages_max - self.messages
    }

    /// What may still come: `max_bytes` counts messages as they are stored, and the answer ends at its
    /// own limit in JSON, so as much is asked for as will fit if it grows like what has come.
    pub(super) fn bytes_left(&self) -> u64 {
        let room = BYTES_MAX.saturating_sub(self.json_bytes);
        let room = if self.json_bytes > self.bytes {
            room.saturating_mul(self.bytes) / self.json_bytes
        } else {
            room
        };
        self.bytes_max.saturating_sub(self.bytes).min(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::memory;
    use crate::telemetry::metrics::Gauge;

    fn budget(max_bytes: Option<u64>, memory: u64) -> Budget {
        let bodies = memory::Budget::new(memory, Gauge::default());
        Budget::new(10, max_bytes, bodies.draw(0).unwrap())
    }

    fn take(budget: &mut Budget, bytes: u64, json_bytes: u64) -> bool {
        assert!(budget.draw(bytes, None));
        budget.add(bytes);
        budget.wrote(json_bytes, None)
    }

    #[test]
    fn what_is_asked_for_counts_messages_as_they_are_stored() {
        let mut budget = budget(Some(1000), 1 << 20);
        assert!(take(&mut budget, 300, 900));
        assert_eq!((budget.messages_left(), budget.bytes_left()), (9, 700));
        assert!(take(&mut budget, 800, 900));
        assert_eq!(budget.bytes_left(), 0);
    }

    #[test]
    fn what_grows_as_json_leaves_room_for_less() {
        let mut budget = budget(None, 1 << 30);
        assert!(take(&mut budget, 1 << 20, 4 << 20));
        assert_eq!(budget.bytes_left(), 1 << 20);
        assert!(take(&mut budget, 1 << 20, 4 << 20));
        assert!(budget.is_full());
        assert_eq!(budget.bytes_left(), 0);
    }

    #[test]
    fn a_message_is_paid_for_by_its_pull() {
        let bodies = memory::Budget::new(1000, Gauge::default());
        let mut budget = Budget::new(10, None, bodies.draw(0).unwrap());
        let mut pull = bodies.draw(900).unwrap();
        assert!(budget.draw(600, Some(&mut pull)));
        assert!(
            budget.draw(400, Some(&mut pull)),
            "100 more than the pull has left"
        );
        assert!(!budget.draw(1, Some(&mut pull)));
        drop(budget);
        assert!(bodies.draw(1000).is_some());
    }

    #[test]
    fn a_message_that_grows_beyond_what_there_is_does_not_count() {
        let mut budget = budget(None, 1000);
        assert!(!take(&mut budget, 400, 1001));
        assert!(budget.is_empty());
        assert!(take(&mut budget, 500, 600));
        assert!(!budget.is_empty());
    }
}
