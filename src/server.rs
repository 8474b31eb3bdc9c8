//! The accept loop: our own on hyper-util, because the framework's has no timers, no cap and no say in
//! how a connection ends.
//!
//! Promises: a silent or dribbling client is closed on time and costs one timer; the connection cap
//! pauses the loop *before* a connection is taken, so that what is too much waits in the kernel's
//! backlog, where it costs nothing; an error of `accept` never spins; and when the drain begins, what
//! the kernel has already accepted on our behalf is still served.

mod accept;
mod connection;
mod files;
mod io;
mod listen;
mod pace;
mod slots;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use files::raise_open_files;
pub use listen::{BindError, Listener, bind};
pub use pace::Timers;
pub use slots::Slots;

use crate::layers::context::Context;
use crate::lifecycle::Drain;
use crate::telemetry::metrics::{Gauge, GaugeGuard, Rejections};
use crate::workers::Workers;
use accept::{Accepted, Acceptor, waiting};

/// What a listener serves. Not a [`tower::Service`], which is called by `&mut` and so cloned for every
/// request.
pub trait Serve: Clone + Send + Sync + 'static {
    /// An answer on its way.
    type Answer: Future<Output = Result<Response, Infallible>> + Send + 'static;

    /// Answers one request, of which the server knows what the context says.
    fn answer(&self, request: Request<Incoming>, context: Context) -> Self::Answer;
}

/// Few ask, so it may be cloned for each.
impl Serve for axum::Router {
    type Answer = axum::routing::future::RouteFuture<Infallible>;

    fn answer(&self, mut request: Request<Incoming>, context: Context) -> Self::Answer {
        request.extensions_mut().insert(context);
        tower::Service::call(&mut self.clone(), request)
    }
}

/// What a server may take. The shared ones may be changed while it serves.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, over all its addresses.
    pub slots: Arc<Slots>,
    /// The clocks of new connections.
    pub timers: Arc<ArcSwap<Timers>>,
    /// Where the number of open connections is shown.
    pub connections: Gauge,
    /// Where those are counted who do not get as far as a request.
    pub rejections: Rejections,
}

/// Serves until the drain begins and every connection has ended. Dropping the future cuts what is left.
pub async fn serve<S: Serve>(
    listeners: Vec<Listener>,
    workers: Arc<Workers>,
    service: S,
    limits: Limits,
    drain: Drain,
) {
    // Until the loop has taken what the backlog holds, the process is not idle.
    let accepting = drain.work();
    let mut connections = Connections::new(service, &limits, &drain);
    let mut acceptor = Acceptor::new(&listeners, &workers);
    let mut backlog_until = None;
    while let Some(accepted) = next(&mut acceptor, &limits, &drain, &mut connections.tasks).await {
        if drain.is_draining() {
            // A flood of connections does not keep the door open.
            let until = *backlog_until.get_or_insert_with(|| Instant::now() + BACKLOG_TIME);
            if Instant::now() > until {
                break;
            }
        }
        connections.begin(accepted);
    }
    let until = backlog_until.unwrap_or_else(|| Instant::now() + BACKLOG_TIME);
    for listener in listeners {
        while let Some(accepted) = waiting(&listener, &workers, &limits.slots, until) {
            connections.begin(accepted);
        }
    }
    drop(accepting);
    while connections.tasks.join_next().await.is_some() {}
}

/// How long the backlog is served after the drain began.
const BACKLOG_TIME: Duration = Duration::from_millis(250);

/// The open connections of a server.
struct Connections<S> {
    shared: Arc<connection::Shared<S>>,
    drain: Drain,
    counted: Gauge,
    tasks: JoinSet<()>,
}

impl<S: Serve> Connections<S> {
    fn new(service: S, limits: &Limits, drain: &Drain) -> Self {
        let shared = connection::Shared {
            http: connection::Http::new(),
            timers: Arc::clone(&limits.timers),
            drain: drain.clone(),
            rejections: limits.rejections.clone(),
            service,
        };
        Self {
            shared: Arc::new(shared),
            drain: drain.clone(),
            counted: limits.connections.clone(),
            tasks: JoinSet::new(),
        }
    }

    /// Serves one, on the worker that it was dealt to.
    fn begin(&mut self, accepted: Accepted) {
        let Accepted {
            slot,
            worker,
            socket,
            peer,
        } = accepted;
        let counted = GaugeGuard::new(&self.counted);
        let kept = (slot, self.drain.work(), counted, worker.count());
        let serving = connection::serve(Arc::clone(&self.shared), socket, peer, kept);
        self.tasks.spawn_on(serving, worker.runtime());
    }
}

/// The next connection, once there is a place for it; none when the drain has begun and the backlog is
/// empty. Reaps the connections that ended meanwhile.
async fn next(
    acceptor: &mut Acceptor<'_>,
    limits: &Limits,
    drain: &Drain,
    connections: &mut JoinSet<()>,
) -> Option<Accepted> {
    let accept = async {
        let slot = match limits.slots.take_now() {
            Some(slot) => slot,
            None => {
                limits.rejections.connections_max.inc();
                limits.slots.take().await
            }
        };
        acceptor.accept(slot).await
    };
    tokio::pin!(accept);
    loop {
        tokio::select! {
            biased;
            accepted = &mut accept => return Some(accepted),
            Some(_) = connections.join_next() => {}
            () = drain.draining() => return None,
        }
    }
}
