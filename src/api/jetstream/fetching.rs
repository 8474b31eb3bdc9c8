//! The messages of one fetch, pull after pull: the next of its [`steps`], as long as there is something
//! left of its [`budget`].

mod budget;
mod outcomes;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::JetStream;
use super::backoff::Backoff;
use super::consumers::ConsumerInfo;
use super::janitor::Held;
use super::losses;
use super::pull::{Event, Order, Pull};
use super::traced::Receiving;
use crate::api::notice::EndReason;
use crate::layers::memory::Drawn;
use crate::nats::{Call, Failure, Inbound};
use crate::problem::{Code, Outcome, Problem};
use crate::subject::Name;
use crate::telemetry::metrics::GaugeGuard;
use budget::Budget;
use steps::{LINGER, Left, Steps};

pub(super) use budget::BYTES_MAX;
pub(super) use outcomes::is_push;

/// How long after its time a fetch may still talk to the server, to end what it began there.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) stream: Name,
    pub(super) consumer: Name,
    pub(super) max: usize,
    pub(super) max_bytes: Option<u64>,
    /// When the answer must be there.
    pub(super) until: Instant,
}

/// A fetch under way. Dropping it gives back what was not written.
pub(super) struct Fetching {
    js: Arc<JetStream>,
    wanted: Wanted,
    is_acked: bool,
    budget: Budget,
    steps: Steps,
    held: Held,
    /// When the last message came.
    last: Option<Instant>,
    backoff: Backoff,
    /// The last pull was never answered, so nobody knows whether there was anything.
    unanswered: bool,
    /// What ended it after some messages.
    ended_by: Option<Problem>,
    receiving: Receiving,
    /// Counted as one that waits, until there is a message.
    waiting: Option<GaugeGuard>,
}

impl Fetching {
    pub(super) fn new(
        js: Arc<JetStream>,
        wanted: Wanted,
        info: &ConsumerInfo,
        receiving: Receiving,
    ) -> Result<Self, Problem> {
        let memory = js.bodies.draw(0).ok_or_else(JetStream::no_room)?;
        Ok(Self {
            is_acked: info.is_acked(),
            budget: Budget::new(wanted.max, wanted.max_bytes, memory),
            steps: Steps::new(info, wanted.max_bytes),
            held: Held::new(Arc::clone(&js.janitor)),
            last: None,
            backoff: Backoff::until(wanted.until),
            unanswered: false,
            ended_by: None,
            receiving,
            waiting: Some(GaugeGuard::new(&js.metrics.waiting)),
            js,
            wanted,
        })
    }

    /// The fetch's span.
    pub(super) const fn receiving(&mut self) -> &mut Receiving {
        &mut self.receiving
    }

    /// The messages that were given out and are not written yet.
    pub(super) const fn held(&mut self) -> &mut Held {
        &mut self.held
    }

    /// The next message; nothing when the fetch has ended. A problem only where there was no message.
    pub(super) async fn next(&mut self) -> Result<Option<Inbound>, Problem> {
        loop {
            let Some(pull) = self.held.pull() else {
                let Some(order) = self.next_order() else {
                    return self.at_the_end();
                };
                self.open(order).await?;
                continue;
            };
            match pull.next().await {
                Event::Message(message) => {
                    if let Some(message) = self.take(message)? {
                        return Ok(Some(message));
                    }
                }
                event => {
                    self.held.abandon_pull();
                    self.after(event).await?;
                }
            }
        }
    }

    /// An empty answer says that the queue is empty, so somebody must have said so.
    fn at_the_end(&self) -> Result<Option<Inbound>, Problem> {
        if self.budget.is_empty() && self.unanswered {
            return Err(Problem::new(Code::JetStreamUnavailable)
                .detail("the consumer did not answer")
                .outcome(Outcome::NotSent));
        }
        Ok(None)
    }

    /// The last message has become so many bytes of JSON. False where there is no room for them: then
    /// it is given back, and the fetch has ended.
    pub(super) fn wrote(&mut self, bytes: usize) -> Result<bool, Problem> {
        let pull = self.held.pull().as_mut().map(Pull::memory);
        if !self.budget.wrote(bytes as u64, pull) {
            self.held.give_back_last(self.is_acked);
            self.end_with(JetStream::no_room())?;
            return Ok(false);
        }
        if self.budget.is_full() {
            self.steps.end();
            self.held.abandon_pull();
        }
        Ok(true)
    }

    /// What there is to say after the last of several messages, if something went wrong with the
    /// stream or its consumer.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        match self.ended_by.as_ref()?.code() {
            Code::ConsumerNotFound => Some(EndReason::ConsumerDeleted),
            Code::StreamNotFound => Some(EndReason::StreamDeleted),
            Code::NatsPermissionDenied | Code::SubjectNotAllowed => {
                Some(EndReason::PermissionDenied)
            }
            _ => None,
        }
    }

    /// Takes a message in, if there is room for it and it may be shown; else the fetch ends.
    fn take(&mut self, message: Inbound) -> Result<Option<Inbound>, Problem> {
        let Some(ack) = &message.reply else {
            let problem = Problem::new(Code::BadReply);
            self.end_with(problem.detail("a message came without its ack subject"))?;
            return Ok(None);
        };
        if self.is_acked {
            self.held.hold(ack.clone());
        }
        let admitted = self
            .js
            .access
            .permit_message(&message.subject)
            .and_then(|()| self.draw(message.length as u64));
        if let Err(problem) = admitted {
            self.held.give_back_last(self.is_acked);
            self.end_with(problem)?;
            return Ok(None);
        }
        self.receiving.message(&message);
        self.budget.add(message.length as u64);
        self.steps.brought();
        self.waiting = None;
        self.unanswered = false;
        self.last = Some(Instant::now());
        Ok(Some(message))
    }

    fn draw(&mut self, bytes: u64) -> Result<(), Problem> {
        let pull = self.held.pull().as_mut().map(Pull::memory);
        match self.budget.draw(bytes, pull) {
            true => Ok(()),
            false => Err(JetStream::no_room()),
        }
    }

    async fn open(&mut self, order: Order) -> Result<(), Problem> {
        let (stream, consumer) = (&self.wanted.stream, &self.wanted.consumer);
        if let Some(seq) = self.js.losses.cause(stream, consumer) {
            return self.end_with(losses::unreadable(consumer, seq));
        }
        // What it may bring is drawn before it is asked for.
        let max_payload = self.js.api.nats().max_payload() as u64;
        let bytes = self.steps.bytes_of(&order, max_payload);
        let Some(memory) = self.js.bodies.draw(bytes) else {
            self.steps.asked_for_too_much();
            return self.pause_or(JetStream::no_room()).await;
        };
        let call = self
            .js
            .call(self.wanted.until.max(Instant::now()) + PATIENCE);
        if let Err(failure) = self.send(order, memory, call).await {
            self.held.abandon_pull();
            self.failed(failure).await?;
        }
        Ok(())
    }

    async fn send(&mut self, order: Order, memory: Drawn, call: Call) -> Result<(), Failure> {
        let pull = Pull::prepare(self.js.api.link(), order, memory, call).await?;
        self.steps.begun();
        // Where it is found if the client goes away while it is sent.
        let pull = self.held.pull().insert(pull);
        let (stream, consumer) = (self.wanted.stream.as_str(), self.wanted.consumer.as_str());
        pull.send(stream, consumer, call).await
    }

    fn next_order(&self) -> Option<Order> {
        // When the process is to end, the pull under way is the last.
        if self.js.drain.is_draining() {
            return None;
        }
        let end = match self.last {
            Some(last) => (last + LINGER).min(self.wanted.until.max(last)),
            None => self.wanted.until,
        };
        self.steps.order(Left {
            messages: self.budget.messages_left(),
            bytes: self.budget.bytes_left(),
            time: end.saturating_duration_since(Instant::now()),
            is_all: self.budget.is_empty(),
        })
    }
}
