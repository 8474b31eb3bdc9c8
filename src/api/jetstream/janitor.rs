//! Gives back what was fetched for a client that went away.
//!
//! A message that was delivered and reached nobody would wait for the consumer's ack wait, half a
//! minute by default. A nak makes the server deliver it again at once; it counts as a delivery.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Api;
use super::pull::{Event, Pull};
use crate::lifecycle::Drain;
use crate::nats::{Call, Confirm, Outbound};
use crate::telemetry::metrics::{Counter, JetStreamMetrics};

const NAK: Bytes = Bytes::from_static(b"-NAK");

/// Clients that left at once. What is beyond it is redelivered after the ack wait.
const TASKS_MAX: usize = 4096;

/// How long a nak may wait for the connection, and a message for its delivery: the server's own clock
/// runs, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Owns the tasks that give messages back.
#[derive(Debug)]
pub(super) struct Janitor {
    api: Api,
    tasks: TaskTracker,
    places: Arc<Semaphore>,
    drain: Drain,
    metrics: JetStreamMetrics,
}

impl Janitor {
    pub(super) fn new(api: Api, drain: Drain, metrics: JetStreamMetrics) -> Arc<Self> {
        Arc::new(Self {
            api,
            tasks: TaskTracker::new(),
            places: Arc::new(Semaphore::new(TASKS_MAX)),
            drain,
            metrics,
        })
    }

    /// Naks these, and whatever a pull that is still open brings.
    fn give_back(&self, acks: Vec<Subject>, pull: Option<Pull>) {
        let pull = pull.filter(Pull::is_open);
        if acks.is_empty() && pull.is_none() {
            return;
        }
        let (held, count) = (acks.len() as u64, Count::of(&self.metrics));
        let api = self.api.clone();
        let is_taken = self.run(async move {
            for ack in acks {
                count.note(nak(&api, ack).await);
            }
            if let Some(pull) = pull {
                give_back_the_rest(&api, pull, &count).await;
            }
        });
        if !is_taken {
            self.metrics.left.inc_by(held);
        }
    }

    /// Runs something that nobody waits for; the process ends after it. False where there is no room.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let (Ok(place), Ok(runtime)) = (
            Arc::clone(&self.places).try_acquire_owned(),
            Handle::try_current(),
        ) else {
            return false;
        };
        let work = self.drain.work();
        let task = async move {
            let _held = (place, work);
            task.await;
        };
        self.tasks.spawn_on(task, &runtime);
        true
    }
}

/// What became of messages that were not written.
struct Count {
    given_back: Counter,
    left: Counter,
}

impl Count {
    fn of(metrics: &JetStreamMetrics) -> Self {
        Self {
            given_back: metrics.given_back.clone(),
            left: metrics.left.clone(),
        }
    }

    fn note(&self, given_back: bool) {
        if given_back {
            self.given_back.inc();
        } else {
            self.left.inc();
        }
    }
}

async fn give_back_the_rest(api: &Api, mut pull: Pull, count: &Count) {
    pull.wait_for(PATIENCE);
    while let Event::Message(message) = pull.next().await {
        if let Some(ack) = message.reply {
            count.note(nak(api, ack).await);
        }
    }
}

/// Without it the message is delivered again after the ack wait.
async fn nak(api: &Api, ack: Subject) -> bool {
    let call = Call {
        deadline: Instant::now() + PATIENCE,
        wait: true,
    };
    let sent = api
        .link()
        .publish(Outbound::new(ack, NAK), Confirm::Accepted, call);
    sent.await.is_ok()
}

/// Messages that were fetched and not yet written. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Held {
    janitor: Arc<Janitor>,
    acks: std::collections::VecDeque<Subject>,
    pull: Option<Pull>,
}

impl Held {
    pub(super) const fn new(janitor: Arc<Janitor>) -> Self {
        Self {
            janitor,
            acks: std::collections::VecDeque::new(),
            pull: None,
        }
    }

    /// The pull that is under way, if one is.
    pub(super) const fn pull(&mut self) -> &mut Option<Pull> {
        &mut self.pull
    }

    /// Sets a pull aside that may still bring messages.
    pub(super) fn abandon_pull(&mut self) {
        let pull = self.pull.take();
        self.janitor.give_back(Vec::new(), pull);
    }

    /// A message is held from now on.
    pub(super) fn hold(&mut self, ack: Subject) {
        self.acks.push_back(ack);
    }

    /// Gives back the message that was held last, if it was.
    pub(super) fn give_back_last(&mut self, is_held: bool) {
        let last = is_held.then(|| self.acks.pop_back()).flatten();
        self.janitor.give_back(last.into_iter().collect(), None);
    }

    /// The first so many have been written.
    pub(super) fn written(&mut self, count: usize) {
        self.janitor.metrics.delivered.inc_by(count as u64);
        self.acks.drain(..count.min(self.acks.len()));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let acks = std::mem::take(&mut self.acks).into();
        self.janitor.give_back(acks, self.pull.take());
    }
}
