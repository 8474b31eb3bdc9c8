//! What fetches for a feed, with one consumer.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Feed, OPENING};
use crate::api::jetstream::Api;
use crate::api::jetstream::replay::consumer::Consumer;
use crate::api::jetstream::replay::look::Look;
use crate::api::jetstream::replay::pull::{Event, Order, Pull};
use crate::api::jetstream::replay::window::{BYTES, Slot};
use crate::nats::Call;

/// How often the stream is looked at while nothing is fetched.
const LOOKING: Duration = Duration::from_secs(1);
/// After so many times without even a heartbeat, the consumer is given up, though its stream is there.
const SILENCES: usize = 3;
/// How many messages are taken before readers are woken.
const CHUNK: usize = 128;
/// So many are fetched one by one after a consumer broke and brought nothing.
const CAREFUL: usize = 64;

const ORDER: Order = Order {
    batch: 1024,
    max_bytes: Some(BYTES / 4),
    expires: Duration::from_secs(30),
    heartbeat: Duration::from_secs(1),
};
const ONE: Order = Order {
    batch: 1,
    max_bytes: None,
    ..ORDER
};

/// The pump.
pub(super) struct Pump<'a> {
    feed: &'a Feed,
    api: &'a Api,
    consumer: Consumer,
    /// The last sequence that was looked at.
    position: u64,
    slots: Vec<Slot>,
}

impl<'a> Pump<'a> {
    /// Goes on where the window ends.
    pub(super) fn new(feed: &'a Feed, api: &'a Api, consumer: Consumer) -> Self {
        Self {
            feed,
            api,
            consumer,
            position: feed.window.lock().high(),
            slots: Vec::with_capacity(CHUNK),
        }
    }

    /// Fetches until the consumer is not to be trusted any more.
    /// Carefully: the first messages one by one, so that it comes up to one that breaks it.
    pub(super) async fn run(mut self, carefully: bool) {
        let mut order = if carefully { ONE } else { ORDER };
        let mut careful = if carefully { CAREFUL } else { 0 };
        let mut is_first = true;
        while self.has_room().await {
            let looks = self.feed.of.hides_trimming() && !std::mem::take(&mut is_first);
            if looks && !self.note_trimmed(u64::MAX).await {
                return;
            }
            let Ok(mut pull) = Pull::send(&self.consumer, order).await else {
                return;
            };
            careful = usize::saturating_sub(careful, 1);
            order = match self.receive(&mut pull).await {
                Event::Ended if careful > 0 => ONE,
                Event::Ended => ORDER,
                Event::TooLarge => ONE,
                _ => return,
            };
        }
    }

    /// Waits until there is room; false when the stream is not to be found meanwhile.
    async fn has_room(&self) -> bool {
        while !self.feed.window.lock().has_room() {
            let moved = timeout(LOOKING, self.feed.moved.notified()).await;
            if moved.is_err() && self.look().await.is_none() {
                return false;
            }
        }
        true
    }

    async fn look(&self) -> Option<Look> {
        let call = Call {
            deadline: Instant::now() + OPENING,
            wait: true,
        };
        let look = Look::at(self.api, &self.feed.of.stream, call).await.ok()?;
        (look.tag == self.feed.of.tag).then_some(look)
    }

    /// Notes what the stream has let go of before this sequence; false when it cannot be asked.
    async fn note_trimmed(&mut self, before: u64) -> bool {
        let Some(look) = self.look().await else {
            return false;
        };
        if let Some(trimmed) = self.feed.of.trimmed(self.position, before, &look) {
            self.position = trimmed.seq();
            self.slots.push(trimmed);
        }
        true
    }

    /// Passes on what comes of one pull; returns what ended it.
    async fn receive(&mut self, pull: &mut Pull) -> Event {
        loop {
            let event = self.hear(pull).await;
            let mut end = self.read(event).await;
            while end.is_none() && self.slots.len() < CHUNK {
                let Some(event) = pull.try_next() else { break };
                end = self.read(event).await;
            }
            self.feed.change(|window| {
                self.slots.drain(..).for_each(|slot| window.push(slot));
                window.looked_at(self.position);
            });
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// What happens next. In a long silence the stream is looked at, for it may be gone.
    async fn hear(&self, pull: &mut Pull) -> Event {
        for _ in 0..SILENCES {
            match pull.next().await {
                Event::Silence if self.look().await.is_some() => {}
                event => return event,
            }
        }
        Event::Broken
    }

    /// Takes in what came; returns what ends the pull.
    async fn read(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Message(message) => {
                let Some((consumer_seq, delivery)) = self.feed.of.delivery(message) else {
                    return Some(Event::Broken);
                };
                let slot = Slot::message(delivery);
                if !self.consumer.counts(consumer_seq) {
                    return Some(Event::Broken);
                }
                if self.feed.of.is_suspicious(self.position, slot.seq())
                    && !self.note_trimmed(slot.seq()).await
                {
                    return Some(Event::Broken);
                }
                self.position = self.position.max(slot.seq());
                self.slots.push(slot);
                None
            }
            Event::Heartbeat {
                looked_at,
                consumer_seq,
            } if consumer_seq == self.consumer.delivered => {
                self.position = self.position.max(looked_at);
                None
            }
            Event::Heartbeat { .. } => Some(Event::Broken),
            ended => Some(ended),
        }
    }
}
