//! How many requests of a route are worked on at once, and how many may wait for that.
//!
//! Shedding is only worth it while a request has cost nothing, so there is a gate before the body is read:
//! a request that finds no place and the queue full is shed there. A body that is held whole is read before
//! its request takes a place or waits for one, because a place is for work: else as many slow senders as
//! there are places would keep everybody out. What waits is shed at its own deadline, and whoever is shed
//! knows that nothing was sent. The place of an answer that streams is held until its body has ended.

mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse, Response};
use tower::Layer;

use super::deadline::Deadline;
use super::held::{is_complete, until_end};
use super::{Handle, Request};
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::{Gauge, GaugeGuard};

pub use places::{Place, Places};

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
        let response = self.next.handle(request).await;
        // Many replies and fetched messages stream from a unary route.
        match is_complete(&response) {
            true => response,
            false => until_end(response, place.keep(&self.places)),
        }
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
        let place = self.places.enter(deadline.at).await?.keep(&self.places);
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
