//! The accept loop: our own on hyper-util, because the framework's has no timers, no cap and no say in
//! how a connection ends.
//!
//! Promises: a silent or dribbling client is closed on time and costs one timer; the connection cap
//! pauses the loop *before* a connection is taken, so that what is too much waits in the kernel's
//! backlog, where it costs nothing; an error of `accept` never spins; and when the drain begins, what
//! the kernel has already accepted on our behalf is still served.

mod connection;
mod files;
mod io;
mod listen;
mod pace;
mod slots;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io as std_io;
use std::sync::Arc;
use std::task::Poll;
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
use crate::layers::peer::Peer;
use crate::lifecycle::Drain;
use crate::telemetry::metrics::{Gauge, GaugeGuard, Rejections};
use crate::workers::{Worker, Workers};
use io::Socket;
use slots::Slot;

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
    let shared = Arc::new(connection::Shared {
        http: connection::Http::new(),
        timers: Arc::clone(&limits.timers),
        drain: drain.clone(),
        rejections: limits.rejections.clone(),
        service,
    });
    let mut connections = JoinSet::new();
    let start = |accepted: Accepted, connections: &mut JoinSet<()>| {
        let Accepted {
            slot,
            worker,
            socket,
            peer,
        } = accepted;
        let counted = GaugeGuard::new(&limits.connections);
        let kept = (slot, drain.work(), counted, worker.count());
        let serving = connection::serve(Arc::clone(&shared), socket, peer, kept);
        connections.spawn_on(serving, worker.runtime());
    };
    let mut acceptor = Acceptor::new(&listeners, &workers);
    let mut backlog_until = None;
    while let Some(accepted) = next(&mut acceptor, &limits, &drain, &mut connections).await {
        if drain.is_draining() {
            // A flood of connections does not keep the door open.
            let until = *backlog_until.get_or_insert_with(|| Instant::now() + BACKLOG_TIME);
            if Instant::now() > until {
                break;
            }
        }
        start(accepted, &mut connections);
    }
    let until = backlog_until.unwrap_or_else(|| Instant::now() + BACKLOG_TIME);
    for listener in listeners {
        while let Some(accepted) = waiting(&listener, &workers, &limits, until) {
            start(accepted, &mut connections);
        }
    }
    drop(accepting);
    while connections.join_next().await.is_some() {}
}

/// A connection that was taken, and whose it is.
struct Accepted {
    slot: Slot,
    worker: Worker,
    socket: Socket,
    peer: Peer,
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

/// A connection that waits in the backlog, and its place.
fn waiting(
    listener: &Listener,
    workers: &Workers,
    limits: &Limits,
    until: Instant,
) -> Option<Accepted> {
    if Instant::now() > until {
        return None;
    }
    let slot = limits.slots.take_now()?;
    let worker = workers.deal();
    let _polls_the_socket = worker.runtime().enter();
    let (socket, peer) = listener.accept_now()?;
    Some(Accepted {
        slot,
        worker: worker.clone(),
        socket,
        peer,
    })
}

/// How long the backlog is served after the drain began.
const BACKLOG_TIME: Duration = Duration::from_millis(250);

/// All addresses of a server, taken in turns.
struct Acceptor<'a> {
    listeners: &'a [Listener],
    workers: &'a Workers,
    turn: usize,
    backoff: Duration,
}

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl<'a> Acceptor<'a> {
    fn new(listeners: &'a [Listener], workers: &'a Workers) -> Self {
        Self {
            listeners,
            workers,
            turn: 0,
            backoff: BACKOFF_MIN,
        }
    }

    /// Waits longer after each error that is not the client's own: out of files or memory, `accept`
    /// fails at once and again, and a loop without a pause would take the processor as well.
    async fn accept(&mut self, slot: Slot) -> Accepted {
        loop {
            match self.accept_any().await {
                Ok((worker, socket, peer)) => {
                    self.backoff = BACKOFF_MIN;
                    return Accepted {
                        slot,
                        worker,
                        socket,
                        peer,
                    };
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if self.backoff == BACKOFF_MIN {
                        tracing::warn!(%error, "no connection can be accepted; trying again");
                    }
                    tokio::time::sleep(self.backoff).await;
                    self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    async fn accept_any(&mut self) -> std_io::Result<(Worker, Socket, Peer)> {
        poll_fn(|cx| {
            let worker = self.workers.deal();
            // A socket is watched by the poller of the runtime in which it is accepted.
            let _inside = worker.runtime().enter();
            for _ in 0..self.listeners.len() {
                self.turn = (self.turn + 1) % self.listeners.len();
                if let Poll::Ready(accepted) = self.listeners[self.turn].poll_accept(cx) {
                    let taken = accepted.map(|(socket, peer)| (worker.clone(), socket, peer));
                    return Poll::Ready(taken);
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn is_the_clients(error: &std_io::Error) -> bool {
    matches!(
        error.kind(),
        std_io::ErrorKind::ConnectionAborted
            | std_io::ErrorKind::ConnectionReset
            | std_io::ErrorKind::ConnectionRefused
    )
}
