//! Fan-out: one NATS subscription for all readers of a subject.
//!
//! Messages come once from NATS, lie once in a ring, and are encoded once; a reader is a cursor.
//! A member of a queue group has a topic of its own, since NATS must see each member.

mod budget;
mod delivery;
mod reader;
mod register;
mod ring;
mod topic;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use async_nats::Subject;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::Failure;
use super::link::{Call, Link};
use register::Registrar;
use topic::{Status, Topic};

pub use budget::Budget;
pub use delivery::{Delivery, FORMS, Stored};
pub use reader::{Event, GapReason, Reader};
pub use ring::Buffer;
pub use topic::HubStats;

/// All subscriptions of this natsway.
#[derive(Debug)]
pub struct Hub {
    registrar: Arc<Registrar>,
    budget: Arc<Budget>,
    stats: Arc<HubStats>,
    shared: Mutex<HashMap<String, Weak<Topic>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Hub {
    pub(super) fn new(
        subscriptions: Arc<Link>,
        messages: Vec<Arc<Link>>,
        moves: Arc<tokio::sync::watch::Sender<u64>>,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            registrar: Arc::new(Registrar {
                subscriptions,
                messages,
                moves,
                alone: tokio::sync::Mutex::new(()),
            }),
            budget,
            stats: Arc::default(),
            shared: Mutex::default(),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> &Arc<HubStats> {
        &self.stats
    }

    /// The memory that all rings share.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// How many NATS subscriptions there are for readers.
    #[must_use]
    pub fn topics(&self) -> usize {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.len()
    }

    /// Subscribes; returns when all our links see the subscription.
    ///
    /// # Errors
    /// No connection (in time), or NATS denies it.
    pub async fn subscribe(
        &self,
        pattern: Subject,
        queue: Option<String>,
        buffer: Buffer,
        call: Call,
    ) -> Result<Reader, Failure> {
        loop {
            let reader = self.join(&pattern, queue.clone(), buffer);
            match timeout_at(call.deadline, self.live(reader.1, call)).await {
                Ok(Ok(true)) => return Ok(reader.0),
                Ok(Ok(false)) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(_) if self.registrar.subscriptions.now().is_none() => {
                    return Err(Failure::Disconnected);
                }
                Err(_) => return Err(Failure::Timeout),
            }
        }
    }

    /// Waits for a topic; false if it ended before we came.
    async fn live(
        &self,
        mut status: tokio::sync::watch::Receiver<Status>,
        call: Call,
    ) -> Result<bool, Failure> {
        loop {
            match *status.borrow_and_update() {
                Status::Live(_) => return Ok(true),
                Status::Failed(Failure::Disconnected) if self.registrar.is_closed() => {
                    return Err(Failure::Disconnected);
                }
                Status::Failed(Failure::Disconnected) => return Ok(false),
                Status::Failed(failure) => return Err(failure),
                Status::Pending if !call.wait && self.registrar.subscriptions.now().is_none() => {
                    return Err(Failure::Disconnected);
                }
                Status::Pending => {}
            }
            let mut link = self.registrar.subscriptions.state();
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return Ok(false) },
                _ = link.changed(), if !call.wait => {}
            }
        }
    }

    fn join(
        &self,
        pattern: &Subject,
        queue: Option<String>,
        buffer: Buffer,
    ) -> (Reader, tokio::sync::watch::Receiver<Status>) {
        if queue.is_some() {
            let topic = self.open(pattern, queue, buffer);
            let status = topic.status.subscribe();
            return (Reader::first(topic), status);
        }
        let mut shared = self.shared.lock();
        let open = shared.get(pattern.as_str()).and_then(Weak::upgrade);
        if let Some(reader) = open.and_then(|topic| Reader::join(topic, buffer)) {
            let status = reader.status();
            return (reader, status);
        }
        let topic = self.open(pattern, None, buffer);
        if shared.len() >= 64 && shared.len().is_power_of_two() {
            shared.retain(|_, topic| topic.strong_count() > 0);
        }
        shared.insert(pattern.to_string(), Arc::downgrade(&topic));
        let status = topic.status.subscribe();
        (Reader::first(topic), status)
    }

    fn open(&self, pattern: &Subject, queue: Option<String>, buffer: Buffer) -> Arc<Topic> {
        let ring = ring::Ring::new(buffer, Arc::clone(&self.budget));
        let topic = Topic::new(pattern.clone(), queue, ring, Arc::clone(&self.stats));
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(topic::run(Arc::clone(&topic), Arc::clone(&self.registrar)));
        topic
    }
}
