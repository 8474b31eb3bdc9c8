//! One connection: what its ids stand for, what is in flight, and when it ends.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::frame::Id;
use super::{Multiplex, OPERATIONS_MAX, answer};
use crate::api::notice::{EndReason, Notice};
use crate::api::stream_body::{Clock, Feed as _, Item, Tick};
use crate::api::subscribe::Live;
use crate::api::websocket::{Gone, Received, Socket};
use crate::problem::{Code, Outcome, Problem};

/// Serves it until one side ends.
pub(super) async fn serve(socket: Socket, verb: Arc<Multiplex>) {
    let mut clock = pin!(verb.lifetimes.clock());
    let connection = Connection {
        verb: Arc::clone(&verb),
        socket,
        taken: HashMap::new(),
        open: Vec::new(),
        turn: 0,
        in_flight: FuturesUnordered::new(),
    };
    connection.run(clock.as_mut()).await;
}

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A subscription that is not live yet; the client may have given it up already.
    Opening { given_up: bool },
    /// A subscription.
    Open,
    /// A publish or a request.
    Operation,
}

/// What became of an operation.
pub(super) enum Done {
    Opened(Id, Result<Live, Problem>),
    /// A publish or a request, with what is to be sent for it.
    Answered(Option<Id>, Option<Bytes>),
}

enum Step {
    Tick(Tick),
    Received(Received),
    Done(Done),
    Item(usize, Item),
}

pub(super) struct Connection {
    pub(super) verb: Arc<Multiplex>,
    pub(super) socket: Socket,
    pub(super) taken: HashMap<Id, Taken>,
    pub(super) open: Vec<(Id, Live)>,
    turn: usize,
    pub(super) in_flight: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Connection {
    async fn run(mut self, mut clock: Pin<&mut Clock>) {
        loop {
            let ready = poll_fn(|cx| Poll::Ready(self.poll_step(clock.as_mut(), cx))).await;
            let step = match ready {
                Poll::Ready(step) => step,
                Poll::Pending => {
                    if self.socket.flush().await.is_err() {
                        return;
                    }
                    poll_fn(|cx| self.poll_step(clock.as_mut(), cx)).await
                }
            };
            let sent = match step {
                Step::Tick(Tick::KeepAlive) => self.socket.ping().await,
                Step::Tick(Tick::End(reason)) => {
                    clock.as_mut().ends_because(reason);
                    return self.end(reason).await;
                }
                Step::Received(Received::End(code)) => return self.socket.end(code).await,
                Step::Received(Received::Text(text)) => self.take(&text.into()).await,
                Step::Received(Received::Binary) => self.refuse_binary().await,
                Step::Done(done) => self.done(done).await,
                Step::Item(index, item) => self.item(index, item).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn poll_step(&mut self, clock: Pin<&mut Clock>, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(tick) = clock.poll_tick(cx) {
            return Poll::Ready(Step::Tick(tick));
        }
        if let Poll::Ready(Some(done)) = self.in_flight.poll_next_unpin(cx) {
            return Poll::Ready(Step::Done(done));
        }
        // Before the subscriptions, so that a busy one can be ended.
        if self.in_flight.len() < OPERATIONS_MAX
            && let Poll::Ready(received) = self.socket.poll_receive(cx)
        {
            return Poll::Ready(Step::Received(received));
        }
        for _ in 0..self.open.len() {
            self.turn = (self.turn + 1) % self.open.len();
            if let Poll::Ready(item) = self.open[self.turn].1.poll_next(cx) {
                return Poll::Ready(Step::Item(self.turn, item));
            }
        }
        Poll::Pending
    }

    async fn done(&mut self, done: Done) -> Result<(), Gone> {
        match done {
            Done::Answered(id, frame) => {
                if let Some(id) = id {
                    self.taken.remove(&id);
                }
                match frame {
                    Some(frame) => self.socket.send(frame).await,
                    None => Ok(()),
                }
            }
            Done::Opened(id, result) => self.opened(id, result).await,
        }
    }

    async fn opened(&mut self, id: Id, result: Result<Live, Problem>) -> Result<(), Gone> {
        let taken = self.taken.remove(&id);
        let given_up = taken == Some(Taken::Opening { given_up: true });
        match result {
            Ok(live) => {
                self.socket.send(answer::ok(&id)).await?;
                if !given_up {
                    self.begin(&id, Taken::Open);
                    self.open.push((id, live));
                    return Ok(());
                }
            }
            Err(problem) => self.socket.send(answer::error(Some(&id), &problem)).await?,
        }
        match given_up {
            true => self.socket.send(answer::ok(&id)).await,
            false => Ok(()),
        }
    }

    async fn item(&mut self, index: usize, item: Item) -> Result<(), Gone> {
        let id = &self.open[index].0;
        match item {
            Item::Message(envelope) => self.socket.send(answer::message(id, &envelope)).await,
            Item::Notice(notice) => {
                let frame = answer::notice(id, &notice);
                if matches!(notice, Notice::End(_)) {
                    self.taken.remove(id);
                    self.open.swap_remove(index);
                }
                self.socket.send(frame).await
            }
        }
    }

    /// Ends all subscriptions, answers what is in flight, and closes.
    async fn end(mut self, reason: EndReason) {
        if self.finish(reason).await.is_ok() {
            self.socket
                .close(reason.close_code(), reason.as_str())
                .await;
        }
    }

    async fn finish(&mut self, reason: EndReason) -> Result<(), Gone> {
        self.end_subscriptions(reason).await?;
        let drain = self.verb.lifetimes.drain.clone();
        while !self.in_flight.is_empty() {
            self.socket.flush().await?;
            tokio::select! {
                biased;
                done = self.in_flight.next() => if let Some(done) = done { self.done(done).await? },
                () = drain.expired() => return self.cut_off().await,
            }
        }
        self.end_subscriptions(reason).await
    }

    async fn end_subscriptions(&mut self, reason: EndReason) -> Result<(), Gone> {
        for (id, live) in std::mem::take(&mut self.open) {
            drop(live);
            self.taken.remove(&id);
            let frame = answer::notice(&id, &Notice::End(reason));
            self.socket.send(frame).await?;
        }
        Ok(())
    }

    /// Says of what is still in flight that nobody knows what becomes of it.
    async fn cut_off(&mut self) -> Result<(), Gone> {
        let problem = Problem::new(Code::ShuttingDown)
            .detail("natsway had to end before there was an answer")
            .outcome(Outcome::Unknown);
        for id in std::mem::take(&mut self.taken).into_keys() {
            self.socket.send(answer::error(Some(&id), &problem)).await?;
        }
        Ok(())
    }
}
