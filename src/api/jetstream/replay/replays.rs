//! What all replays of this natsway share: the feeds of those who follow, and the places of those who
//! catch up.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::consumer::{Begin, Consumer, Refused};
use super::feed::{self, Feed, Place};
use super::lease::Lease;
use super::lingering::Lingering;
use super::look::Look;
use super::places::Places;
use super::selection::Selection;
use super::start::Policy;
use super::window::Memory;
use crate::api::jetstream::Api;
use crate::api::query::invalid;
use crate::lifecycle::Drain;
use crate::nats::{Call, Nats};
use crate::problem::{Code, Problem};
use crate::subject::SubjectPattern;
use crate::telemetry::metrics::Counter;

/// A new feed begins so far back at most, for a reader that is nearly there already.
const BACKLOG: u64 = 512;

type Key = (String, Vec<SubjectPattern>);

/// Made once: feeds and places outlive a reload.
#[derive(Debug)]
pub struct Replays {
    pub(super) api: Api,
    pub(super) memory: Memory,
    pub(super) places: Arc<Places>,
    feeds: Mutex<HashMap<Key, Weak<Feed>>>,
    tasks: Mutex<JoinSet<()>>,
    lingering: Arc<Lingering>,
    /// Messages shown to readers.
    pub(super) shown: Counter,
    drain: Drain,
}

impl Replays {
    /// With so many places to catch up. What feeds keep is drawn from the budget for streams.
    #[must_use]
    pub fn new(nats: &Arc<Nats>, catchups_max: usize, drain: Drain, shown: Counter) -> Arc<Self> {
        Arc::new(Self {
            api: Api::new(nats),
            memory: Memory::half_of(nats.hub().budget()),
            places: Places::new(catchups_max),
            feeds: Mutex::default(),
            tasks: Mutex::new(JoinSet::new()),
            lingering: Arc::default(),
            shown,
            drain,
        })
    }

    /// Sets how many may catch up at once.
    pub fn set_catchups_max(&self, max: usize) {
        self.places.set_max(max);
    }

    /// How many feeds there are.
    #[must_use]
    pub fn feeds(&self) -> usize {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.len()
    }

    /// How many of them nobody reads.
    #[must_use]
    pub fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// How many readers catch up now.
    #[must_use]
    pub fn catchups(&self) -> usize {
        self.places.taken()
    }

    /// How many wait for that.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.waiting()
    }

    /// A gap was announced.
    pub(super) fn count_gap(&self) {
        self.api.nats().hub().stats().count_gap();
    }

    /// A place at the feed of these messages, for a reader at `position`.
    pub(super) fn join(&self, of: &Selection, position: u64, look: &Look) -> Place {
        let key = (of.stream.to_string(), of.filters.clone());
        let mut feeds = self.feeds.lock();
        let open = feeds.get(&key).and_then(Weak::upgrade);
        if let Some(place) = open
            .filter(|feed| feed.of.tag == of.tag)
            .and_then(|feed| feed.join())
        {
            return place;
        }
        let is_near = look.last_seq.saturating_sub(position) <= BACKLOG;
        let begin = if is_near {
            position.min(look.last_seq)
        } else {
            look.last_seq
        };
        let (feed, place) = Feed::first(of.clone(), begin, self.memory.clone());
        if feeds.len() >= 64 && feeds.len().is_power_of_two() {
            feeds.retain(|_, feed| feed.strong_count() > 0);
        }
        feeds.insert(key, Arc::downgrade(&feed));
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        let (lingering, drain) = (Arc::clone(&self.lingering), self.drain.clone());
        tasks.spawn(feed::run(feed, self.api.clone(), lingering, drain));
        place
    }

    /// A lease for a reader whose client waits for the head of the answer; with what its consumer
    /// saw of the stream, and the position before its first message.
    pub(super) async fn lease(
        &self,
        of: &Selection,
        begin: Begin,
        known: u64,
        call: Call,
    ) -> Result<(Lease, Look, u64), Problem> {
        let place = within(call.deadline, self.places.take()).await?;
        match Consumer::open(&self.api, of, begin, call).await {
            Ok((consumer, look)) => {
                let position = consumer.position;
                let lease = Lease::new(consumer, of, place, self.memory.clone(), known);
                let lease = match begin {
                    Begin::Asked(Policy::LastPerSubject) => lease.sparse_to(look.last_seq),
                    Begin::Asked(Policy::Time(_)) | Begin::After(_) => lease,
                };
                Ok((lease, look, position))
            }
            Err(Refused::Gone) => Err(Problem::new(Code::StreamNotFound)),
            Err(Refused::Problem(problem)) => Err(of_consumer(problem)),
        }
    }
}

/// What is wrong with natsway's own consumer can only be what the client chose of it.
pub(super) fn of_consumer(problem: Problem) -> Problem {
    match problem.code() {
        Code::InvalidBody => invalid("subject", problem.sentence()),
        _ => problem,
    }
}

async fn within<T>(deadline: Instant, taking: impl Future<Output = T>) -> Result<T, Problem> {
    timeout_at(deadline, taking).await.map_err(|_| {
        Problem::new(Code::Overloaded)
            .detail("as many readers as may (`catchups_max`) are catching up")
    })
}
