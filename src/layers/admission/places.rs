//! The places of a route, and who waits for one.
//!
//! Places outlive a reload: what runs under the old rules goes on, and counts under the new ones. A lower
//! limit therefore holds as soon as enough of what runs has ended, and never is there more than the larger
//! of the two.

use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Concurrency;
use crate::layers::deadline::before_the_end;
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::Gauge;
use crate::wake::within;

/// The places of one route, whichever way leads to it.
#[derive(Debug)]
pub struct Places {
    free: Semaphore,
    limit: AtomicUsize,
    queue: AtomicUsize,
    /// Places that are to go as soon as they are given back: the limit was lowered while they were taken.
    surplus: AtomicUsize,
    waiting: AtomicUsize,
    gauge: Gauge,
    drain: Drain,
    /// Held while the limit changes.
    changing: Mutex<()>,
}

/// A place that is taken, given back when dropped. Who does not outlive the places borrows them: all workers
/// would count references of an `Arc`.
#[derive(Debug)]
pub struct Place<P: Deref<Target = Places> = Arc<Places>>(P);

impl Places {
    /// So many, none taken; the gauge shows how many wait for one, and they wait until the end at most.
    #[must_use]
    pub fn new(limits: Concurrency, gauge: Gauge, drain: Drain) -> Self {
        let limit = limits.limit.min(Semaphore::MAX_PERMITS);
        Self {
            free: Semaphore::new(limit),
            limit: AtomicUsize::new(limit),
            queue: AtomicUsize::new(limits.queue),
            surplus: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gauge,
            drain,
            changing: Mutex::new(()),
        }
    }

    /// Sets other limits. Who has a place or waits for one keeps that, and counts.
    pub fn set_limits(&self, limits: Concurrency) {
        let _changing = self.changing.lock();
        self.queue.store(limits.queue, Ordering::Relaxed);
        let limit = limits.limit.min(Semaphore::MAX_PERMITS);
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit < before {
            self.surplus.fetch_add(before - limit, Ordering::AcqRel);
            self.remove_surplus();
        } else {
            let more = limit - before;
            self.free.add_permits(more - self.pay(more));
        }
    }

    /// Sets so many places off against the surplus, and says how many that was.
    fn pay(&self, places: usize) -> usize {
        if self.surplus.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let rest = |surplus: usize| Some(surplus.saturating_sub(places));
        let before = self
            .surplus
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, rest);
        before.map_or(0, |before| before.min(places))
    }

    /// Takes away what is free and should not be there.
    fn remove_surplus(&self) {
        let surplus = self.surplus.load(Ordering::Acquire);
        let gone = self.free.forget_permits(surplus);
        // Others may have paid meanwhile.
        self.free.add_permits(gone - self.pay(gone));
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.available_permits() == 0
            && self.waiting.load(Ordering::Relaxed) >= self.queue.load(Ordering::Relaxed)
    }

    /// A place, as soon as there is one.
    ///
    /// # Errors
    /// When too many wait already, or the deadline has come, or the end.
    pub async fn enter(&self, deadline: Instant) -> Result<Place<&Self>, Problem> {
        if let Ok(permit) = self.free.try_acquire() {
            permit.forget();
            return Ok(Place(self));
        }
        let Some(_waiting) = Waiting::begin(self) else {
            return Err(self.no_more());
        };
        let permit = self.wait(deadline, pin!(self.free.acquire())).await?;
        let permit = permit.map_err(|_| self.waited_in_vain())?;
        permit.forget();
        Ok(Place(self))
    }

    /// Waits for a place, or for something on the way there, with nothing sent.
    ///
    /// # Errors
    /// When the deadline has come, or the end.
    pub async fn wait<T>(
        &self,
        deadline: Instant,
        what: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Problem> {
        let came = before_the_end(pin!(within(deadline, what)), &self.drain).await;
        // A place that is free because its owner was cut off is of no use.
        if self.drain.is_expired() {
            return Err(Problem::new(Code::ShuttingDown)
                .detail("natsway had to end before the request had a place"));
        }
        came.flatten().ok_or_else(|| self.waited_in_vain())
    }

    fn waited_in_vain(&self) -> Problem {
        self.shed("the route was at its concurrency limit until the deadline")
    }

    pub(super) fn no_more(&self) -> Problem {
        self.shed("the route is at its concurrency limit and its queue is full")
    }

    fn shed(&self, why: &'static str) -> Problem {
        Problem::new(Code::Overloaded)
            .detail(why)
            .limit(self.limit.load(Ordering::Relaxed))
    }
}

impl Place<&Places> {
    /// The same place for somebody who lives on.
    #[must_use]
    pub fn keep(self, places: &Arc<Places>) -> Place {
        debug_assert!(std::ptr::eq(self.0, &raw const **places), "its own places");
        // It goes on in the other value.
        std::mem::forget(self);
        Place(Arc::clone(places))
    }
}

impl<P: Deref<Target = Places>> Drop for Place<P> {
    fn drop(&mut self) {
        if self.0.pay(1) == 0 {
            self.0.free.add_permits(1);
        }
        // Where the limit was lowered just then.
        if self.0.surplus.load(Ordering::Acquire) > 0 {
            self.0.remove_surplus();
        }
    }
}

/// A place in the queue, given back when the wait ends however it ends.
struct Waiting<'a>(&'a Places);

impl<'a> Waiting<'a> {
    fn begin(places: &'a Places) -> Option<Self> {
        let queue = places.queue.load(Ordering::Relaxed);
        let fits = |waiting: usize| (waiting < queue).then_some(waiting + 1);
        let taken = places
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.ok()?;
        places.gauge.inc();
        Some(Self(places))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Lifecycle;
    use std::time::Duration;

    fn places(limit: usize, queue: usize) -> Arc<Places> {
        let drain = Lifecycle::new().drain();
        let limits = Concurrency { limit, queue };
        Arc::new(Places::new(limits, Gauge::default(), drain))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_sheds_at_once_and_a_wait_ends_at_the_deadline() {
        let places = places(1, 1);
        let held = places.enter(soon()).await.unwrap();
        let start = Instant::now();
        let (waited, shed) = tokio::join!(places.enter(soon()), async {
            let problem = places.enter(soon()).await.unwrap_err();
            (problem, start.elapsed())
        });
        assert_eq!(waited.unwrap_err().code(), Code::Overloaded);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert_eq!((shed.0.code(), shed.1), (Code::Overloaded, Duration::ZERO));
        assert_eq!(places.gauge.get(), 0);
        drop(held);
        assert!(places.enter(soon()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_kept_is_the_same_place() {
        let places = places(1, 0);
        let kept = places.enter(soon()).await.unwrap().keep(&places);
        assert!(places.enter(soon()).await.is_err());
        drop(kept);
        assert!(places.enter(soon()).await.is_ok());
        assert_eq!(places.free.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_the_queue() {
        let places = places(1, 1);
        let held = places.enter(soon()).await.unwrap();
        {
            let waiting = places.enter(soon());
            tokio::pin!(waiting);
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            assert_eq!(places.waiting.load(Ordering::Relaxed), 1);
        }
        assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
        let (next, ()) = tokio::join!(places.enter(soon()), async { drop(held) });
        assert!(next.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_count_what_runs() {
        let places = places(2, 0);
        let (first, second) = (places.enter(soon()).await, places.enter(soon()).await);
        let set = |limit, queue| places.set_limits(Concurrency { limit, queue });
        set(1, 1);
        let start = Instant::now();
        // Two run where one may: the next waits, also when the first of them has ended.
        drop(first);
        let refused = places.enter(soon()).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert_eq!(refused.to_json(None)["limit"], 1);
        let (waited, ()) = tokio::join!(places.enter(soon()), async { drop(second) });
        let third = waited.unwrap();
        set(3, 0);
        let more = (places.enter(soon()).await, places.enter(soon()).await);
        assert!(more.0.is_ok() && more.1.is_ok());
        assert!(places.enter(soon()).await.is_err());
        // Down and up again before anything ended.
        set(1, 0);
        set(4, 0);
        let fourth = places.enter(soon()).await.unwrap();
        assert!(places.enter(soon()).await.is_err());
        drop((third, more, fourth));
        set(1, 0);
        let _only = places.enter(soon()).await.unwrap();
        assert!(places.enter(soon()).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_place_is_lost_or_won_while_limits_change_under_load() {
        let places = places(8, 1000);
        let running = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (places, running) = (Arc::clone(&places), Arc::clone(&running));
            tasks.spawn(async move {
                for _ in 0..200 {
                    let place = places.enter(soon()).await.unwrap();
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= 8, "{now}");
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            });
        }
        for round in 0..2000 {
            let limit = 1 + round % 8;
            places.set_limits(Concurrency { limit, queue: 1000 });
            tokio::task::yield_now().await;
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        places.set_limits(Concurrency { limit: 3, queue: 0 });
        assert_eq!(places.free.available_permits(), 3);
        assert_eq!(places.surplus.load(Ordering::SeqCst), 0);
    }
}
