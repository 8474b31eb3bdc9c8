//! One consumer for all who follow the same messages.
//!
//! It lives as long as somebody reads, and a little longer, for whoever was cut off comes back. It is
//! made anew, from the last sequence on, whenever it may have missed something: a heartbeat that does
//! not come, a number that is skipped, another connection. So what its readers see has no gaps and
//! nothing twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Api;
use super::consumer::{Begin, Consumer, Refused};
use super::lingering::Lingering;
use super::look::Look;
use super::pull::{Event, Order, Pull};
use super::selection::Selection;
use super::window::{BYTES, Found, Memory, Slot, Window};
use crate::api::notice::EndReason;
use crate::lifecycle::Drain;
use crate::nats::Call;
use crate::problem::{Code, Problem};

/// How long a feed outlives its last reader.
const LINGER: Duration = Duration::from_secs(5);
/// How long one attempt to make a consumer may take.
const OPENING: Duration = Duration::from_secs(5);
/// Between two attempts; it grows.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
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

/// How far a feed has come.
#[derive(Clone, Debug)]
pub(super) enum Status {
    /// Its consumer is not there yet; why, if it was tried.
    Opening(Option<Problem>),
    Live,
    /// It never will be.
    Refused(Problem),
    /// The stream is gone.
    Gone,
}

/// The feed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) of: Selection,
    window: Mutex<Window>,
    status: watch::Sender<Status>,
    /// Somebody has read, or left.
    moved: Notify,
    /// Somebody has left.
    left: Notify,
}

impl Feed {
    /// A feed with its first reader.
    pub(super) fn first(of: Selection, begin: u64, memory: Memory) -> (Arc<Self>, Place) {
        let mut window = Window::new(begin, memory);
        let seat = window.sit();
        let feed = Arc::new(Self {
            of,
            window: Mutex::new(window),
            status: watch::Sender::new(Status::Opening(None)),
            moved: Notify::new(),
            left: Notify::new(),
        });
        let place = Place {
            feed: Arc::clone(&feed),
            seat,
        };
        (feed, place)
    }

    /// A place at it; none where it has ended.
    pub(super) fn join(self: &Arc<Self>) -> Option<Place> {
        let mut window = self.window.lock();
        if window.end().is_some() {
            return None;
        }
        Some(Place {
            seat: window.sit(),
            feed: Arc::clone(self),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Window)) {
        let wakers = {
            let mut window = self.window.lock();
            change(&mut window);
            window.take_wakers()
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn end(&self, reason: EndReason, status: Status) {
        self.status.send_replace(status);
        self.change(|window| window.set_end(reason));
    }
}

/// One reader's place at a feed.
#[derive(Debug)]
pub(super) struct Place {
    feed: Arc<Feed>,
    seat: usize,
}

impl Place {
    /// Waits until the feed has its consumer.
    pub(super) async fn live(&self, deadline: Instant) -> Result<(), Problem> {
        let mut status = self.feed.status.subscribe();
        let live = status.wait_for(|status| !matches!(status, Status::Opening(_)));
        match timeout_at(deadline, live).await {
            Ok(Ok(status)) => match &*status {
                Status::Refused(problem) => Err(problem.clone()),
                Status::Gone => Err(Problem::new(Code::StreamNotFound)),
                Status::Opening(_) | Status::Live => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err(self.trouble()),
        }
    }

    fn trouble(&self) -> Problem {
        match &*self.feed.status.borrow() {
            Status::Opening(Some(problem)) => problem.clone(),
            _ => Problem::new(Code::JetStreamUnavailable),
        }
    }

    /// From here on the feed has everything.
    pub(super) fn low(&self) -> u64 {
        self.feed.window.lock().low()
    }

    /// Why nothing follows, if so.
    pub(super) fn end(&self) -> Option<EndReason> {
        self.feed.window.lock().end()
    }

    /// Whether a reader at this position finds all that follows.
    pub(super) fn covers(&self, position: u64) -> bool {
        self.feed.window.lock().covers(position)
    }

    /// Takes what follows a position; where there is nothing, the task is woken when there is.
    pub(super) fn take(&self, position: u64, into: &mut VecDeque<Slot>, cx: &Context<'_>) -> Found {
        let found = {
            let mut window = self.feed.window.lock();
            let found = window.take(position, into);
            if matches!(found, Found::Nothing(_)) {
                window.wait(self.seat, cx.waker());
            }
            found
        };
        if found == Found::Some {
            self.feed.moved.notify_one();
        }
        found
    }

    /// Wants to be woken when something happens.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        self.feed.window.lock().wait(self.seat, cx.waker());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.feed.window.lock().leave(self.seat);
        self.feed.moved.notify_one();
        self.feed.left.notify_one();
    }
}

/// Feeds the window until nobody reads.
pub(super) async fn run(feed: Arc<Feed>, api: Api, lingering: Arc<Lingering>, drain: Drain) {
    // The consumer is deleted before the process ends.
    let _work = drain.work();
    tokio::select! {
        biased;
        () = abandoned(&feed, &lingering, &drain) => {}
        () = keep_up(&feed, &api) => {}
    }
}

/// Returns when nobody has read for a while; nobody can join any more then.
async fn abandoned(feed: &Feed, lingering: &Arc<Lingering>, drain: &Drain) {
    loop {
        feed.left.notified().await;
        if feed.window.lock().readers() > 0 {
            continue;
        }
        let place = lingering.enter();
        tokio::select! {
            () = sleep(LINGER) => {}
            () = place.needed() => {}
            () = drain.draining() => {}
        }
        let mut window = feed.window.lock();
        if window.readers() == 0 {
            window.set_end(EndReason::Draining);
            return;
        }
    }
}

async fn keep_up(feed: &Feed, api: &Api) {
    let mut was_live = false;
    let mut pause = PAUSE;
    let mut carefully = false;
    loop {
        let call = Call {
            deadline: Instant::now() + OPENING,
            wait: true,
        };
        let after = feed.window.lock().high();
        let opened = Consumer::open(api, &feed.of, Begin::After(after), call).await;
        let problem = match opened {
            Ok((consumer, look)) => {
                (was_live, pause) = (true, PAUSE);
                begin(feed, after, &look);
                let pump = Pump {
                    feed,
                    api,
                    consumer,
                    position: feed.window.lock().high(),
                    slots: Vec::with_capacity(CHUNK),
                };
                pump.run(carefully).await;
                carefully = feed.window.lock().high() == after;
                pass_over(feed, api).await;
                sleep(PAUSE).await;
                continue;
            }
            Err(Refused::Gone) => return feed.end(EndReason::StreamDeleted, Status::Gone),
            Err(Refused::Problem(problem)) => problem,
        };
        if problem.code() == Code::NatsPermissionDenied {
            return feed.end(EndReason::PermissionDenied, Status::Refused(problem));
        }
        let is_lasting = problem.http_status().is_client_error() || problem.http_status() == 501;
        if is_lasting && !was_live {
            return feed.end(EndReason::Draining, Status::Refused(problem));
        }
        if !was_live {
            feed.status.send_replace(Status::Opening(Some(problem)));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn begin(feed: &Feed, after: u64, look: &Look) {
    if let Some(trimmed) = feed.of.trimmed(after, u64::MAX, look) {
        feed.change(|window| window.push(trimmed));
    }
    feed.status.send_replace(Status::Live);
}

/// Passes over the messages that break every consumer, if it was one of them.
async fn pass_over(feed: &Feed, api: &Api) {
    loop {
        let position = feed.window.lock().high();
        let Some(slot) = feed.of.unreadable(api, position).await else {
            return;
        };
        feed.change(|window| window.push(slot));
    }
}

/// What fetches for a feed, with one consumer.
struct Pump<'a> {
    feed: &'a Feed,
    api: &'a Api,
    consumer: Consumer,
    /// The last sequence that was looked at.
    position: u64,
    slots: Vec<Slot>,
}

impl Pump<'_> {
    /// Fetches until the consumer is not to be trusted any more.
    /// Carefully: the first messages one by one, so that it comes up to one that breaks it.
    async fn run(mut self, carefully: bool) {
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
                let slot = slot(delivery);
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

/// A message with its sequence.
pub(super) fn slot(delivery: crate::nats::Delivery) -> Slot {
    let seq = delivery
        .stored
        .as_ref()
        .map_or(0, |stored| stored.position.seq);
    Slot::Message(seq, Arc::new(delivery))
}
