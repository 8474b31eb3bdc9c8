//! The threads that everything runs on, each with a runtime of its own.
//!
//! A runtime of several threads has one poller, and whoever is idle takes the tasks that it woke: so a
//! connection wanders from core to core with each of its requests, and the threads wake each other to do it.
//! Here a connection stays with the worker it was dealt to, whose poller wakes it. What is lost is that an
//! idle worker helps a busy one; so connections are dealt to whoever has the fewest.

mod own;
mod stripes;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

pub use own::{Own, Striped};
pub use stripes::Stripes;

/// All of them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    others: Others,
}

/// The runtimes of all workers but the first.
#[derive(Debug, Default)]
struct Others(Mutex<Vec<Runtime>>);

/// How long they may take to let go of their tasks.
const ENDING: Duration = Duration::from_secs(1);

/// One thread.
#[derive(Clone, Debug)]
pub struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// The runtime that this is called in, and so many beside it.
    ///
    /// # Errors
    /// When the system gives no more files.
    pub fn with_others(count: usize) -> io::Result<Arc<Self>> {
        let mut workers = vec![Worker::new(Handle::current())];
        // Not a bare `Vec`: if there are not enough of them, those that are there end as they should.
        let others = Others::default();
        for number in 1..=count {
            let runtime = runtime_of(number)?;
            workers.push(Worker::new(runtime.handle().clone()));
            others.0.lock().push(runtime);
        }
        Ok(Arc::new(Self { workers, others }))
    }

    /// The runtime that this is called in, alone.
    #[must_use]
    pub fn here() -> Arc<Self> {
        Arc::new(Self {
            workers: vec![Worker::new(Handle::current())],
            others: Others::default(),
        })
    }

    /// Ends all but the first, with everything that still runs on them.
    pub async fn end(&self) {
        let others = std::mem::take(&mut *self.others.0.lock());
        let until = Instant::now() + ENDING;
        let ended = tokio::task::spawn_blocking(move || {
            for other in others {
                other.shutdown_timeout(until.saturating_duration_since(Instant::now()));
            }
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the workers did not end");
        }
    }

    /// The one with the fewest connections. Among equals it is left to chance: a client that always opens a
    /// stream and then a connection for its requests would else fill one worker with streams. A connection
    /// alone goes to the first, where the link for messages is: each request would else wake two threads more.
    #[must_use]
    pub fn deal(&self) -> &Worker {
        let first = &self.workers[0];
        if first.connections() == 0 {
            return first;
        }
        let chance = rand::random_range(0..self.workers.len());
        let (before, from) = self.workers.split_at(chance);
        let turn = from.iter().chain(before);
        turn.min_by_key(|worker| worker.connections())
            .expect("there is always the first")
    }

    /// All of them, in the order of their numbers.
    #[must_use]
    pub fn all(&self) -> &[Worker] {
        &self.workers
    }

    /// One of them, the same for the same number.
    #[must_use]
    pub fn nth(&self, number: usize) -> &Worker {
        &self.workers[number % self.workers.len()]
    }
}

/// The runtime of the first worker.
///
/// # Errors
/// When the system gives no more files.
pub fn runtime() -> io::Result<Runtime> {
    runtime_of(0)
}

/// A runtime with one thread. Not one of tokio's current-thread runtimes: those write to their poller's
/// file for every single task that another thread wakes, these only when they sleep.
fn runtime_of(number: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name(format!("natsway-{number}"))
        .on_thread_start(move || stripes::set_worker(number))
        .build()
}

/// Files that the runtime of each worker has: two for its poller, one to wake it, one for signals.
pub const FILES_EACH: usize = 4;

impl Drop for Others {
    fn drop(&mut self) {
        // Whoever drops this may be in a runtime, where nobody may wait for another one's end.
        let others = self.0.get_mut().drain(..);
        others.for_each(Runtime::shutdown_background);
    }
}

impl Worker {
    fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            connections: Arc::default(),
        }
    }

    /// Where its tasks are spawned.
    #[must_use]
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How many connections it has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection of its own, until that is dropped.
    #[must_use]
    pub fn count(&self) -> Dealt {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Dealt(Arc::clone(&self.connections))
    }
}

/// A connection that a worker has.
#[derive(Debug)]
pub struct Dealt(Arc<AtomicUsize>);

impl Drop for Dealt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(workers: &Workers) -> Vec<usize> {
        workers.all().iter().map(Worker::connections).collect()
    }

    #[tokio::test]
    async fn a_connection_goes_to_whoever_has_the_fewest() {
        let workers = Workers::with_others(2).unwrap();
        let first = workers.deal().count();
        assert_eq!(connections(&workers), [1, 0, 0], "the first is alone");
        let more: Vec<_> = (0..5).map(|_| workers.deal().count()).collect();
        assert_eq!(connections(&workers), [2, 2, 2]);
        drop(more);
        assert_eq!(connections(&workers), [1, 0, 0]);
        drop(first);
        assert_eq!(connections(&workers), [0, 0, 0]);
    }

    #[tokio::test]
    async fn what_is_spawned_on_a_worker_runs_in_its_thread() {
        let workers = Workers::with_others(1).unwrap();
        let here = std::thread::current().id();
        let there = workers.nth(1).runtime();
        let there = there.spawn(async { std::thread::current().id() });
        assert_ne!(there.await.unwrap(), here);
        let here_again = workers.nth(2).runtime();
        let here_again = here_again.spawn(async { std::thread::current().id() });
        assert_eq!(here_again.await.unwrap(), here);
    }
}
