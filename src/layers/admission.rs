//! How many requests of a route are worked on at once, and how many may wait for that.
//!
//! Shedding is only worth it while a request has cost nothing, so there is a gate before the body is read:
//! a request that finds no place and the queue full is shed there. A body that is held whole is read before
//! its request takes a place or waits for one, because a place is for work: else as many slow senders as
//! there are places would keep everybody out. What waits is shed at its own deadline, and whoever is shed
//! knows that nothing was sent. The place of an answer that streams is held until its body has ended.
//!
//! Places outlive a reload: what runs under the old rules goes on, and counts under the new ones. A lower
//! limit therefore holds as soon as enough of what runs has ended, and never is there more than the larger
//! of the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::Layer;

use super::deadline::Deadline;
use super::held::until_end;
use super::{Handle, Request};
use crate::config::Concurrency;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::{Gauge, GaugeGuard};
use crate::wake::within;

/// Streams that may be open in the process, over all routes and reloads.
#[derive(Debug)]
pub struct StreamSlots {
    open: AtomicUsize,
    max: AtomicUsize,
}

impl StreamSlots {
    /// So many.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
        })
    }

    /// Sets another limit; what is open stays open.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    fn take(self: &Arc<Self>) -> Option<StreamSlot> {
        let max = self.max.load(Ordering::Relaxed);
        let fits = |open: usize| (open < max).then_some(open + 1);
        let taken = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.is_ok().then(|| StreamSlot(Arc::clone(self)))
    }
}

#[derive(Debug)]
struct StreamSlot(Arc<StreamSlots>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an open stream holds, as a request extension. The answer's body holds it, too; an upgraded
/// connection has no body, so its task keeps a clone of this until it ends.
#[derive(Clone, Debug)]
pub struct StreamPermit(#[allow(dead_code, reason = "held, never read")] Arc<StreamHold>);

#[derive(Debug)]
struct StreamHold {
    _place: Place,
    _slot: StreamSlot,
    _count: GaugeGuard,
}

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
    /// Held while the limit changes.
    changing: Mutex<()>,
}

/// A place that is taken, given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// So many, none taken; the gauge shows how many wait for one.
    #[must_use]
    pub fn new(limits: Concurrency, gauge: Gauge) -> Self {
        let limit = limits.limit.min(Semaphore::MAX_PERMITS);
        Self {
            free: Semaphore::new(limit),
            limit: AtomicUsize::new(limit),
            queue: AtomicUsize::new(limits.queue),
            surplus: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gauge,
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

    fn is_full(&self) -> bool {
        self.free.available_permits() == 0
            && self.waiting.load(Ordering::Relaxed) >= self.queue.load(Ordering::Relaxed)
    }

    /// A place, as soon as there is one.
    ///
    /// # Errors
    /// When too many wait already, or the deadline has come.
    pub async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<Place, Problem> {
        if let Ok(permit) = self.free.try_acquire() {
            permit.forget();
            return Ok(Place(Arc::clone(self)));
        }
        let Some(_waiting) = Waiting::begin(self) else {
            return Err(self.no_more());
        };
        match within(deadline, self.free.acquire()).await {
            Some(Ok(permit)) => {
                permit.forget();
                Ok(Place(Arc::clone(self)))
            }
            Some(Err(_)) | None => Err(self.waited_in_vain()),
        }
    }

    /// What somebody is told for whom there was no place until the deadline.
    #[must_use]
    pub fn waited_in_vain(&self) -> Problem {
        self.shed("the route was at its concurrency limit until the deadline")
    }

    fn no_more(&self) -> Problem {
        self.shed("the route is at its concurrency limit and its queue is full")
    }

    fn shed(&self, why: &'static str) -> Problem {
        Problem::new(Code::Overloaded)
            .detail(why)
            .limit(self.limit.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
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

/// The layer before the body: nothing is read for whom there is neither a place nor a wait for one.
pub fn gate<N: Handle>(places: Arc<Places>) -> impl Layer<N, Service = Gate<N>> {
    tower::layer::layer_fn(move |next| Gate {
        next,
        places: Arc::clone(&places),
    })
}

/// See [`gate`].
#[derive(Debug)]
pub struct Gate<N> {
    next: N,
    places: Arc<Places>,
}

impl<N: Handle> Handle for Gate<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        match self.places.is_full() {
            false => self.next.handle(request).await,
            true => self.places.no_more().into_response(),
        }
    }
}

/// The layer of the unary stacks.
pub fn layer<N: Handle>(places: Arc<Places>) -> impl Layer<N, Service = Admission<N>> {
    tower::layer::layer_fn(move |next| Admission {
        next,
        places: Arc::clone(&places),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct Admission<N> {
    next: N,
    places: Arc<Places>,
}

impl<N: Handle> Handle for Admission<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        let place = match self.places.enter(request.deadline().at).await {
            Ok(place) => place,
            Err(problem) => return problem.into_response(),
        };
        // Many replies and fetched messages stream from a unary route.
        until_end(self.next.handle(request).await, place)
    }
}

/// The layer of the streaming stack: the process-wide number of streams, too. Nobody queues here: a place
/// is free when another's stream ends, and nobody knows when that is.
pub fn stream_layer<N: Handle>(
    places: Arc<Places>,
    open: Gauge,
    slots: Arc<StreamSlots>,
) -> impl Layer<N, Service = StreamAdmission<N>> {
    tower::layer::layer_fn(move |next| StreamAdmission {
        next,
        places: Arc::clone(&places),
        slots: Arc::clone(&slots),
        open: open.clone(),
    })
}

/// See [`stream_layer`].
#[derive(Debug)]
pub struct StreamAdmission<N> {
    next: N,
    places: Arc<Places>,
    slots: Arc<StreamSlots>,
    open: Gauge,
}

impl<N: Handle> Handle for StreamAdmission<N> {
    async fn handle(&self, mut request: Box<Request>) -> Response {
        let permit = match self.enter(request.deadline()).await {
            Ok(permit) => permit,
            Err(problem) => return problem.into_response(),
        };
        request.extensions_mut().insert(permit.clone());
        until_end(self.next.handle(request).await, permit)
    }
}

impl<N> StreamAdmission<N> {
    async fn enter(&self, deadline: Deadline) -> Result<StreamPermit, Problem> {
        let slot = self.slots.take().ok_or_else(|| {
            Problem::new(Code::TooManyStreams).limit(self.slots.max.load(Ordering::Relaxed))
        })?;
        let place = self.places.enter(deadline.at).await?;
        Ok(StreamPermit(Arc::new(StreamHold {
            _place: place,
            _slot: slot,
            _count: GaugeGuard::new(&self.open),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn places(limit: usize, queue: usize) -> Arc<Places> {
        Arc::new(Places::new(Concurrency { limit, queue }, Gauge::default()))
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

    #[test]
    fn streams_have_one_number_for_all_routes() {
        let slots = StreamSlots::new(1);
        let first = slots.take().unwrap();
        assert!(slots.take().is_none());
        slots.set_max(2);
        let second = slots.take();
        assert!(second.is_some());
        drop(first);
        slots.set_max(1);
        assert!(slots.take().is_none());
    }
}
