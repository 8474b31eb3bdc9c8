//! How many requests of a route are worked on at once, and how many may wait for that.
//!
//! Before the body is read: shedding is only worth it while a request has cost nothing. A request that
//! finds the queue full is shed at once, one that waits is shed at its own deadline, and both know that
//! nothing was sent. The place of an answer that streams is held until its body has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tower::Layer;

use super::Handle;
use super::deadline::Deadline;
use super::held::until_end;
use crate::config::Concurrency;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::{Gauge, GaugeGuard};

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
    _place: OwnedSemaphorePermit,
    _slot: StreamSlot,
    _count: GaugeGuard,
}

/// The places of one route, which another way to the same endpoint may share.
#[derive(Debug)]
pub struct Places {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    limits: Concurrency,
    gauge: Gauge,
}

impl Places {
    /// So many, none taken; the gauge shows how many wait for one.
    #[must_use]
    pub fn new(limits: Concurrency, gauge: Gauge) -> Self {
        let running = Semaphore::new(limits.limit.min(Semaphore::MAX_PERMITS));
        Self {
            running: Arc::new(running),
            waiting: AtomicUsize::new(0),
            limits,
            gauge,
        }
    }

    /// A place, as soon as there is one.
    ///
    /// # Errors
    /// When too many wait already, or the deadline has come.
    pub async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let Some(_waiting) = Waiting::begin(self) else {
            return Err(self.shed("the route is at its concurrency limit and its queue is full"));
        };
        let acquire = Arc::clone(&self.running).acquire_owned();
        match timeout_at(deadline, acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self.waited_in_vain()),
        }
    }

    /// What somebody is told for whom there was no place until the deadline.
    #[must_use]
    pub fn waited_in_vain(&self) -> Problem {
        self.shed("the route was at its concurrency limit until the deadline")
    }

    fn shed(&self, why: &'static str) -> Problem {
        Problem::new(Code::Overloaded)
            .detail(why)
            .limit(self.limits.limit)
    }
}

/// A place in the queue, given back when the wait ends however it ends.
struct Waiting<'a>(&'a Places);

impl<'a> Waiting<'a> {
    fn begin(places: &'a Places) -> Option<Self> {
        let fits = |waiting: usize| (waiting < places.limits.queue).then_some(waiting + 1);
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

/// The layer of the unary stack.
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
        match self.places.enter(Deadline::of(&request).at).await {
            // Many replies and fetched messages stream from a unary route.
            Ok(permit) => until_end(self.next.handle(request).await, permit),
            Err(problem) => problem.into_response(),
        }
    }
}

/// The layer of the streaming stack: the process-wide number of streams, too. Nobody queues here: a place
/// is free when another's stream ends, and nobody knows when that is.
pub fn stream_layer<N: Handle>(
    limits: Concurrency,
    waiting: Gauge,
    open: Gauge,
    slots: Arc<StreamSlots>,
) -> impl Layer<N, Service = StreamAdmission<N>> {
    tower::layer::layer_fn(move |next| StreamAdmission {
        next,
        places: Places::new(Concurrency { queue: 0, ..limits }, waiting.clone()),
        slots: Arc::clone(&slots),
        open: open.clone(),
    })
}

/// See [`stream_layer`].
#[derive(Debug)]
pub struct StreamAdmission<N> {
    next: N,
    places: Places,
    slots: Arc<StreamSlots>,
    open: Gauge,
}

impl<N: Handle> Handle for StreamAdmission<N> {
    async fn handle(&self, mut request: Box<Request>) -> Response {
        match self.enter(Deadline::of(&request)).await {
            Ok(permit) => {
                request.extensions_mut().insert(permit.clone());
                until_end(self.next.handle(request).await, permit)
            }
            Err(problem) => problem.into_response(),
        }
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

    fn places(limit: usize, queue: usize) -> Places {
        Places::new(Concurrency { limit, queue }, Gauge::default())
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
