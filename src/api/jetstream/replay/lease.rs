//! A place to catch up, and what a reader does with it: a consumer of its own, pulled from only as
//! fast as the client reads.

use std::time::Duration;

use tokio::time::Instant;

use super::consumer::Consumer;
use super::places::Held;
use super::pull::{Event, Order, Pull};
use super::selection::Selection;
use super::window::Memory;
use crate::nats::{Delivery, Failure};

/// What one reader may hold at once.
const BYTES: usize = 128 << 10;
/// A lease that nobody used for so long can be taken away.
const IDLE: Duration = Duration::from_secs(1);
/// Who has caught up for so long lets others go first.
const TURN: Duration = Duration::from_secs(2);

const ORDER: Order = Order {
    batch: 256,
    max_bytes: Some(BYTES),
    expires: Duration::from_secs(10),
    // Where nothing more is for this reader, a heartbeat says how far it has come with that.
    heartbeat: Duration::from_millis(250),
};
const ONE: Order = Order {
    batch: 1,
    max_bytes: None,
    ..ORDER
};

/// What a reader comes by while it catches up.
#[derive(Debug)]
pub(super) enum Found {
    Message(Box<Delivery>),
    /// There is nothing up to this sequence.
    Nothing(u64),
    /// The pull has ended.
    Ended,
    /// The consumer cannot be trusted any more.
    Broken,
}

/// The lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// Dropped first: the consumer is gone before somebody else has the place.
    consumer: Consumer,
    pull: Option<Pull>,
    order: Order,
    memory: Memory,
    reserved: bool,
    since: Instant,
    used: Instant,
    /// What was in the stream before the pull was sent.
    known: u64,
    nothing_up_to: Option<u64>,
    is_single: bool,
    /// Up to here messages are left out because that was asked for.
    sparse_to: u64,
    was_pulled: bool,
    _place: Held,
}

impl Lease {
    /// With a consumer that was made after the stream had reached `known`.
    pub(super) fn new(
        consumer: Consumer,
        of: &Selection,
        place: Held,
        memory: Memory,
        known: u64,
    ) -> Self {
        let now = Instant::now();
        let reserved = memory.take(BYTES);
        let mut lease = Self {
            consumer,
            pull: None,
            order: if reserved { ORDER } else { ONE },
            memory,
            reserved,
            since: now,
            used: now,
            known,
            nothing_up_to: None,
            is_single: of.is_single,
            sparse_to: 0,
            was_pulled: false,
            _place: place,
        };
        lease.note_pending(lease.consumer.pending);
        lease
    }

    /// A message that breaks the consumer then takes no others with it.
    pub(super) const fn take_one_by_one(&mut self) {
        self.order = ONE;
    }

    /// Whether its reader does not come.
    pub(super) fn is_idle(&self) -> bool {
        self.used.elapsed() > IDLE
    }

    /// Whether others should go first.
    pub(super) fn has_had_its_turn(&self) -> bool {
        self.since.elapsed() > TURN
    }

    /// The same where the consumer leaves out all but the last message of each subject, up to here.
    pub(super) const fn sparse_to(mut self, seq: u64) -> Self {
        self.sparse_to = seq;
        self
    }

    /// Whether what is missing before this sequence may have been trimmed.
    pub(super) const fn is_suspicious(&self, of: &Selection, position: u64, seq: u64) -> bool {
        seq > self.sparse_to && of.is_suspicious(position, seq)
    }

    /// Whether the stream may have let go of something since the last pull.
    pub(super) fn must_look(&self, of: &Selection, position: u64) -> bool {
        let is_between = self.pull.is_none() && self.was_pulled && position >= self.sparse_to;
        is_between && (self.is_idle() || of.hides_trimming())
    }

    /// That was just done.
    pub(super) const fn has_looked(&mut self) {
        self.was_pulled = false;
    }

    /// Where nothing is pending on the only copy of the stream, all that was there when it was asked
    /// has been seen. A copy may be behind the leader, and then only a heartbeat tells.
    const fn note_pending(&mut self, pending: u64) {
        self.nothing_up_to = if self.is_single && pending == 0 {
            Some(self.known)
        } else {
            None
        };
    }

    /// Up to where there is nothing more, if that is known without asking.
    pub(super) const fn nothing_up_to(&self) -> Option<u64> {
        self.nothing_up_to
    }

    /// Asks for more, where nothing is asked for.
    pub(super) async fn pull(&mut self, known: u64) -> Result<(), Failure> {
        self.used = Instant::now();
        if self.pull.is_none() {
            self.known = known;
            self.was_pulled = true;
            self.pull = Some(Pull::send(&self.consumer, self.order).await?);
        }
        Ok(())
    }

    /// The next thing that comes.
    pub(super) async fn next(&mut self, of: &Selection) -> Found {
        let Some(pull) = &mut self.pull else {
            return Found::Ended;
        };
        let event = pull.next().await;
        self.read(of, event)
    }

    /// What is there already.
    pub(super) fn try_next(&mut self, of: &Selection) -> Option<Found> {
        let event = self.pull.as_mut()?.try_next()?;
        Some(self.read(of, event))
    }

    fn read(&mut self, of: &Selection, event: Event) -> Found {
        self.used = Instant::now();
        match event {
            Event::Message(message) => match of.delivery(message) {
                Some((consumer_seq, delivery)) if self.consumer.counts(consumer_seq) => {
                    let pending = delivery.stored.as_ref().map_or(1, |s| s.pending);
                    self.note_pending(pending);
                    Found::Message(Box::new(delivery))
                }
                _ => Found::Broken,
            },
            Event::Heartbeat {
                looked_at,
                consumer_seq,
            } if consumer_seq == self.consumer.delivered => Found::Nothing(looked_at),
            Event::Heartbeat { .. } | Event::Silence | Event::Broken => Found::Broken,
            Event::Ended => self.ended(if self.reserved { ORDER } else { ONE }),
            Event::TooLarge => self.ended(ONE),
        }
    }

    fn ended(&mut self, next: Order) -> Found {
        self.pull = None;
        self.order = next;
        Found::Ended
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.reserved {
            self.memory.give_back(BYTES);
        }
    }
}
