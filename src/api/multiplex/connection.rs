//! One connection: what its ids stand for, what is in flight, and when it ends.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use super::caller::Caller;
use super::frame::Id;
use super::{Multiplex, OPERATIONS_MAX, answer};
use crate::api::notice::{EndReason, Notice};
use crate::api::stream_body::{Clock, Feed as _, Item, Tick};
use crate::api::subscribe::Live;
use crate::api::websocket::{Gone, Received, Socket};
use crate::layers::deadline::cut_off;
use crate::layers::memory::Drawn;
use crate::lifecycle::Drain;
use crate::problem::Problem;

/// How long the answer to a client's close waits for what is in flight.
const CLOSING: Duration = Duration::from_secs(1);

/// Serves it until one side ends.
pub(super) async fn serve(socket: Socket, verb: Arc<Multiplex>, caller: Caller) {
    let mut clock = verb.lifetimes.clock();
    let connection = Connection {
        verb: Arc::clone(&verb),
        caller,
        socket,
        taken: HashMap::new(),
        unnamed: 0,
        open: Vec::new(),
        turn: 0,
        in_flight: FuturesUnordered::new(),
        known: VecDeque::new(),
        unwritten: None,
    };
    connection.run(&mut clock).await;
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
    Answered(Answered),
}

/// A publish or a request that has ended.
pub(super) struct Answered {
    pub(super) id: Option<Id>,
    /// What is to be sent for it.
    pub(super) frame: Option<Bytes>,
    /// What a reply takes until it is written.
    pub(super) held: Option<Arc<Drawn>>,
}

enum Step {
    Tick(Tick),
    Received(Received),
    Done(Done),
    Item(usize, Item),
}

type InFlight = FuturesUnordered<BoxFuture<'static, Done>>;

pub(super) struct Connection {
    pub(super) verb: Arc<Multiplex>,
    pub(super) caller: Caller,
    socket: Socket,
    pub(super) taken: HashMap<Id, Taken>,
    /// Publishes in flight without an id.
    pub(super) unnamed: usize,
    pub(super) open: Vec<(Id, Live)>,
    turn: usize,
    pub(super) in_flight: InFlight,
    /// What ended while a frame waited to be written.
    known: VecDeque<Done>,
    /// Paid for the frame that was written last, which may still lie in the socket's buffer.
    unwritten: Option<Arc<Drawn>>,
}

impl Connection {
    async fn run(mut self, clock: &mut Clock) {
        loop {
            let ready = poll_fn(|cx| Poll::Ready(self.poll_step(clock, cx))).await;
            let step = match ready {
                Poll::Ready(step) => step,
                Poll::Pending => {
                    if self.flush().await.is_err() {
                        return self.settle().await;
                    }
                    poll_fn(|cx| self.poll_step(clock, cx)).await
                }
            };
            if let Step::Received(received) = &step
                && let Some(reason) = received.ends_for()
            {
                clock.ends_for(reason);
            }
            let sent = match step {
                Step::Tick(Tick::KeepAlive) => {
                    let ping = self.socket.ping();
                    meanwhile(ping, &mut self.in_flight, &mut self.known).await
                }
                Step::Tick(Tick::End(reason)) => {
                    clock.ends_because(reason);
                    return self.end(reason).await;
                }
                Step::Received(Received::End(code)) => return self.leave(code).await,
                Step::Received(Received::Text(text)) => self.take(&text.into()).await,
                Step::Received(Received::Binary) => self.refuse_binary().await,
                Step::Done(done) => self.done(done).await,
                Step::Item(index, item) => self.item(index, item).await,
            };
            if sent.is_err() {
                return self.settle().await;
            }
        }
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, frame: Bytes) -> Result<(), Gone> {
        let sending = self.socket.send(frame);
        meanwhile(sending, &mut self.in_flight, &mut self.known).await?;
        self.unwritten = None;
        let now = Instant::now();
        for (_, live) in &mut self.open {
            live.written(true, now);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let flushing = self.socket.flush();
        meanwhile(flushing, &mut self.in_flight, &mut self.known).await?;
        self.unwritten = None;
        Ok(())
    }

    /// The client has closed. What it sent before goes its way all the same, and a close is answered
    /// when it has, so that a client that waits for the answer knows.
    async fn leave(self, code: Option<u16>) {
        let drain = &self.verb.lifetimes.drain;
        let _work = drain.work();
        self.caller.leaves();
        drop(self.open);
        let mut settled = pin!(settled(self.in_flight, drain));
        let in_time = timeout(CLOSING, settled.as_mut()).await.is_ok();
        self.socket.end(code).await;
        if !in_time {
            settled.await;
        }
    }

    /// The client is gone; what it sent before goes its way all the same.
    async fn settle(self) {
        let drain = &self.verb.lifetimes.drain;
        let _work = drain.work();
        self.caller.leaves();
        drop((self.open, self.socket, self.known));
        settled(self.in_flight, drain).await;
    }

    fn poll_step(&mut self, clock: &mut Clock, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(tick) = clock.poll_tick(cx) {
            return Poll::Ready(Step::Tick(tick));
        }
        if let Some(done) = self.known.pop_front() {
            return Poll::Ready(Step::Done(done));
        }
        if let Poll::Ready(Some(done)) = self.in_flight.poll_next_unpin(cx) {
            return Poll::Ready(Step::Done(done));
        }
        // Before the subscriptions, so that a busy one can be ended.
        if self.in_flight.len() >= OPERATIONS_MAX {
            self.socket.excuse();
        } else if let Poll::Ready(received) = self.socket.poll_receive(cx) {
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
            Done::Answered(answered) => self.answered(answered).await,
            Done::Opened(id, result) => self.opened(id, result).await,
        }
    }

    async fn answered(&mut self, answered: Answered) -> Result<(), Gone> {
        match answered.id {
            Some(id) => drop(self.taken.remove(&id)),
            None => self.unnamed -= 1,
        }
        if let Some(frame) = answered.frame {
            self.send(frame).await?;
            self.unwritten = answered.held;
        }
        Ok(())
    }

    async fn opened(&mut self, id: Id, result: Result<Live, Problem>) -> Result<(), Gone> {
        let taken = self.taken.remove(&id);
        let given_up = taken == Some(Taken::Opening { given_up: true });
        match result {
            Ok(live) => {
                self.send(answer::ok(&id)).await?;
                if !given_up {
                    self.begin(&id, Taken::Open);
                    self.open.push((id, live));
                    return Ok(());
                }
            }
            Err(problem) => self.error(Some(&id), &problem).await?,
        }
        match given_up {
            true => self.send(answer::ok(&id)).await,
            false => Ok(()),
        }
    }

    async fn item(&mut self, index: usize, item: Item) -> Result<(), Gone> {
        let id = &self.open[index].0;
        let frame = match item {
            Item::Message(envelope) => {
                let sent = self.send(answer::message(id, &envelope)).await;
                self.open[index].1.taken();
                return sent;
            }
            Item::Notice(notice) => {
                let frame = answer::notice(id, &notice);
                if matches!(notice, Notice::End(_)) {
                    self.taken.remove(id);
                    self.open.swap_remove(index);
                }
                frame
            }
        };
        self.send(frame).await
    }

    /// Says what went wrong.
    pub(super) async fn error(&mut self, id: Option<&Id>, problem: &Problem) -> Result<(), Gone> {
        let frame = self.caller.error(id, problem);
        self.send(frame).await
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
        while !(self.in_flight.is_empty() && self.known.is_empty()) {
            if let Some(done) = self.known.pop_front() {
                self.done(done).await?;
                continue;
            }
            self.flush().await?;
            if !self.known.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                done = self.in_flight.next() => if let Some(done) = done { self.done(done).await? },
                () = drain.expired() => return self.cut_off(reason).await,
            }
        }
        self.end_subscriptions(reason).await
    }

    async fn end_subscriptions(&mut self, reason: EndReason) -> Result<(), Gone> {
        for (id, live) in std::mem::take(&mut self.open) {
            drop(live);
            self.taken.remove(&id);
            let frame = answer::notice(&id, &Notice::End(reason));
            self.send(frame).await?;
        }
        Ok(())
    }

    /// Says of what is still in flight that nobody knows what becomes of it, and of what is known by then,
    /// such as that it waited for a place until the end, the truth.
    async fn cut_off(&mut self, reason: EndReason) -> Result<(), Gone> {
        // Without a budget: tokio would make way in between, and what is known would seem not to be.
        let (in_flight, known) = (&mut self.in_flight, &mut self.known);
        let gathered = poll_fn(|cx| {
            // Each of them, woken or not.
            for operation in in_flight.iter_mut() {
                if let Poll::Ready(done) = operation.poll_unpin(cx) {
                    known.push_back(done);
                }
            }
            Poll::Ready(())
        });
        unconstrained(gathered).await;
        self.in_flight.clear();
        while let Some(done) = self.known.pop_front() {
            self.done(done).await?;
        }
        self.end_subscriptions(reason).await?;
        let problem = cut_off();
        for id in std::mem::take(&mut self.taken).into_keys() {
            self.error(Some(&id), &problem).await?;
        }
        for _ in 0..self.unnamed {
            self.error(None, &problem).await?;
        }
        Ok(())
    }
}

/// Writes, and goes on with what is in flight where that takes time: its replies are paid for as they
/// come, not when the client reads again.
async fn meanwhile<T>(
    writing: impl Future<Output = T>,
    in_flight: &mut InFlight,
    known: &mut VecDeque<Done>,
) -> T {
    let mut writing = pin!(writing);
    poll_fn(|cx| {
        if let Poll::Ready(written) = writing.as_mut().poll(cx) {
            return Poll::Ready(written);
        }
        gather(in_flight, known, cx);
        Poll::Pending
    })
    .await
}

/// Takes what has become known.
fn gather(in_flight: &mut InFlight, known: &mut VecDeque<Done>, cx: &mut Context<'_>) {
    while let Poll::Ready(Some(done)) = in_flight.poll_next_unpin(cx) {
        known.push_back(done);
    }
}

/// Waits for what is in flight, each until its own deadline.
async fn settled(mut in_flight: InFlight, drain: &Drain) {
    tokio::select! {
        biased;
        () = async { while in_flight.next().await.is_some() {} } => {}
        () = drain.expired() => {}
    }
}
