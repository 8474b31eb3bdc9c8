//! Takes connections from all addresses of a server, each with its place and its worker.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::io::Socket;
use super::listen::Listener;
use super::slots::{Slot, Slots};
use crate::layers::peer::Peer;
use crate::workers::{Worker, Workers};

/// A connection that was taken, and whose it is.
pub(super) struct Accepted {
    pub(super) slot: Slot,
    pub(super) worker: Worker,
    pub(super) socket: Socket,
    pub(super) peer: Peer,
}

/// All addresses of a server, taken in turns.
pub(super) struct Acceptor<'a> {
    listeners: &'a [Listener],
    workers: &'a Workers,
    turn: usize,
    backoff: Duration,
}

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl<'a> Acceptor<'a> {
    pub(super) fn new(listeners: &'a [Listener], workers: &'a Workers) -> Self {
        Self {
            listeners,
            workers,
            turn: 0,
            backoff: BACKOFF_MIN,
        }
    }

    /// Waits longer after each error that is not the client's own: out of files or memory, `accept`
    /// fails at once and again, and a loop without a pause would take the processor as well.
    pub(super) async fn accept(&mut self, slot: Slot) -> Accepted {
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

    async fn accept_any(&mut self) -> io::Result<(Worker, Socket, Peer)> {
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

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// A connection that waits in the backlog, and its place.
pub(super) fn waiting(
    listener: &Listener,
    workers: &Workers,
    slots: &Arc<Slots>,
    until: Instant,
) -> Option<Accepted> {
    if Instant::now() > until {
        return None;
    }
    let slot = slots.take_now()?;
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
