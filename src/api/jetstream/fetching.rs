//! The messages of one fetch, pull after pull.
//!
//! A *sweep* takes what is there and ends as soon as nothing more is; it soon tells whether there is
//! anything. Where there is nothing, a *wait* asks for one single message for up to two
//! seconds, again and again. So a client that vanishes leaves at most one message to be given back,
//! no pull outlives its fetch for long, and one that got lost in an election is soon asked again:
//! what idle heartbeats are for with long pulls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::JetStream;
use super::backoff::Backoff;
use super::consumers::ConsumerInfo;
use super::janitor::Held;
use super::losses;
use super::pull::{End, Event, Order, Pull, Refusal};
use super::traced::Receiving;
use crate::api::notice::EndReason;
use crate::layers::memory::Drawn;
use crate::nats::{Call, Failure, Inbound};
use crate::problem::{Code, Doing, Outcome, Problem};
use crate::subject::Name;
use crate::telemetry::metrics::GaugeGuard;

/// How long after the last message an answer waits for another.
const LINGER: Duration = Duration::from_millis(50);
/// How long the first sweep looks for something.
const FIRST_MAX: Duration = Duration::from_millis(250);
/// How long a single pull waits at the server.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The server's clock has no finer grain that matters.
const EXPIRES_MIN: Duration = Duration::from_millis(5);
/// How long after its time a fetch may still talk to the server, to end what it began there.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most bytes of messages in one answer.
pub(super) const BYTES_MAX: u64 = 8 << 20;
/// The bytes of the first sweep, for most find little, and of the next. What may come is drawn from the
/// budget before it is asked for.
const SWEEP_BYTES_FIRST: u64 = 64 << 10;
const SWEEP_BYTES: u64 = 1 << 20;
/// What a wait draws, for there may be many. A message that is larger is told of, and then asked for.
const WAIT_BYTES: u64 = 16 << 10;

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
    limits: Limits,
    memory: Drawn,
    held: Held,
    count: usize,
    bytes: u64,
    /// What they have become.
    json_bytes: u64,
    last_bytes: u64,
    last: Option<Instant>,
    backoff: Backoff,
    step: Step,
    sweep_bytes: u64,
    /// The last pull was never answered, so nobody knows whether there was anything.
    unanswered: bool,
    /// What ended it after some messages.
    ended_by: Option<Problem>,
    /// Messages of the pull under way.
    brought: usize,
    receiving: Receiving,
    /// Counted as one that waits, until there is a message.
    waiting: Option<GaugeGuard>,
}

/// The consumer's own limits of a single pull.
struct Limits {
    batch: usize,
    bytes: u64,
    expires: Duration,
    is_acked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Sweep,
    Wait,
    /// One message that is larger than a sweep.
    Large,
    /// One message without regard to its size.
    Huge,
    End,
}

impl Fetching {
    pub(super) fn new(
        js: Arc<JetStream>,
        wanted: Wanted,
        info: &ConsumerInfo,
        receiving: Receiving,
    ) -> Result<Self, Problem> {
        let usize_of = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        let limits = Limits {
            batch: info.limit("max_batch").map_or(usize::MAX, usize_of),
            bytes: info.limit("max_bytes").unwrap_or(u64::MAX),
            expires: info.expires_max().unwrap_or(WAIT_MAX),
            is_acked: info.is_acked(),
        };
        let memory = js.bodies.draw(0).ok_or_else(JetStream::no_room)?;
        Ok(Self {
            held: Held::new(Arc::clone(&js.janitor)),
            waiting: Some(GaugeGuard::new(&js.metrics.waiting)),
            backoff: Backoff::until(wanted.until),
            js,
            wanted,
            limits,
            memory,
            count: 0,
            bytes: 0,
            json_bytes: 0,
            last_bytes: 0,
            last: None,
            step: Step::Sweep,
            sweep_bytes: SWEEP_BYTES_FIRST,
            unanswered: false,
            ended_by: None,
            brought: 0,
            receiving,
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
        if self.count == 0 && self.unanswered {
            return Err(Problem::new(Code::JetStreamUnavailable)
                .detail("the consumer did not answer")
                .outcome(Outcome::NotSent));
        }
        Ok(None)
    }

    /// The last message has become so many bytes of JSON. False where there is no room for them: then
    /// it is given back, and the fetch has ended.
    pub(super) fn wrote(&mut self, bytes: usize) -> Result<bool, Problem> {
        let bytes = bytes as u64;
        let grown = bytes.saturating_sub(self.last_bytes);
        if let Err(problem) = self.draw(grown) {
            self.held.give_back_last(self.limits.is_acked);
            self.count -= 1;
            self.end_with(problem)?;
            return Ok(false);
        }
        self.json_bytes += bytes;
        if self.json_bytes >= BYTES_MAX {
            self.step = Step::End;
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
        if self.limits.is_acked {
            self.held.hold(ack.clone());
        }
        let admitted = self
            .js
            .access
            .permit_message(&message.subject)
            .and_then(|()| self.draw(message.length as u64));
        if let Err(problem) = admitted {
            self.held.give_back_last(self.limits.is_acked);
            self.end_with(problem)?;
            return Ok(None);
        }
        self.receiving.message(&message);
        self.count += 1;
        self.waiting = None;
        self.unanswered = false;
        self.last_bytes = message.length as u64;
        self.bytes += self.last_bytes;
        self.last = Some(Instant::now());
        self.brought += 1;
        self.step = match self.step {
            Step::Huge => Step::End,
            _ => Step::Sweep,
        };
        Ok(Some(message))
    }

    fn draw(&mut self, bytes: u64) -> Result<(), Problem> {
        if self.memory.more(bytes) {
            return Ok(());
        }
        Err(JetStream::no_room())
    }

    /// Draws what a pull may bring.
    fn draw_for(&self, order: &Order) -> Option<Drawn> {
        let largest = self.js.api.nats().max_payload() as u64 + SWEEP_BYTES_FIRST;
        let bytes = order.max_bytes.unwrap_or(largest);
        self.js.bodies.draw(match self.step {
            Step::Large | Step::Huge => bytes.min(largest),
            Step::Sweep | Step::Wait | Step::End => bytes,
        })
    }

    async fn open(&mut self, order: Order) -> Result<(), Problem> {
        let (stream, consumer) = (&self.wanted.stream, &self.wanted.consumer);
        if let Some(seq) = self.js.losses.cause(stream, consumer) {
            return self.end_with(losses::unreadable(consumer, seq));
        }
        let Some(memory) = self.draw_for(&order) else {
            self.sweep_bytes = SWEEP_BYTES_FIRST;
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
        self.brought = 0;
        // Where it is found if the client goes away while it is sent.
        let pull = self.held.pull().insert(pull);
        let (stream, consumer) = (self.wanted.stream.as_str(), self.wanted.consumer.as_str());
        pull.send(stream, consumer, call).await
    }

    /// What may still come: `max_bytes` counts messages as they are stored, and the answer ends at its
    /// own limit in JSON, so as much is asked for as will fit if it grows like what has come.
    fn bytes_left(&self) -> u64 {
        let wanted = self.wanted.max_bytes.unwrap_or(BYTES_MAX).min(BYTES_MAX);
        let room = BYTES_MAX.saturating_sub(self.json_bytes);
        let room = if self.json_bytes > self.bytes {
            room.saturating_mul(self.bytes) / self.json_bytes
        } else {
            room
        };
        wanted.saturating_sub(self.bytes).min(room)
    }

    fn next_order(&mut self) -> Option<Order> {
        let now = Instant::now();
        let left = self.wanted.max - self.count;
        let bytes_left = self.bytes_left();
        let end = match self.last {
            Some(last) => (last + LINGER).min(self.wanted.until.max(last)),
            None => self.wanted.until,
        };
        // What is there already is worth a look even when there is no time to wait.
        let is_first = self.count == 0 && self.step != Step::Wait;
        // When the process is to end, the pull under way is the last.
        let is_over = self.step == Step::End || self.js.drain.is_draining();
        if left == 0 || bytes_left == 0 || is_over || (now >= end && !is_first) {
            return None;
        }
        let left_of_time = end.saturating_duration_since(now);
        let expires = match self.step {
            // It comes at once; a busy server gets time to find it.
            _ if is_first => left_of_time.clamp(LINGER, FIRST_MAX),
            Step::Wait if self.count == 0 => left_of_time.min(WAIT_MAX),
            _ => left_of_time.min(LINGER),
        };
        let batch = if self.step == Step::Sweep { left } else { 1 };
        let bytes = match self.step {
            Step::Huge => None,
            Step::Large => Some(bytes_left),
            Step::Wait => Some(bytes_left.min(WAIT_BYTES)),
            Step::Sweep | Step::End => Some(bytes_left.min(self.sweep_bytes)),
        };
        Some(Order {
            batch: batch.min(self.limits.batch),
            max_bytes: bytes.map(|bytes| bytes.min(self.limits.bytes)),
            no_wait: self.step == Step::Sweep,
            expires: expires.max(EXPIRES_MIN).min(self.limits.expires),
        })
    }

    /// What comes after a pull that brought its last message.
    async fn after(&mut self, event: Event) -> Result<(), Problem> {
        self.count_pull(&event);
        match event {
            Event::Lost => self.unanswered = true,
            Event::Ended(_) => self.unanswered = false,
            _ => {}
        }
        match event {
            Event::Message(_) => {}
            Event::Ended(End::Done) if self.count == 0 => self.step = Step::Wait,
            Event::Ended(End::Done) => self.step = Step::Sweep,
            Event::Ended(End::Others) => {
                // A sweep would be sent away again as long as others wait for what little there is.
                self.step = Step::Wait;
            }
            Event::Ended(End::TooLarge) => {
                self.step = self.larger();
                self.sweep_bytes = SWEEP_BYTES;
            }
            Event::Lost => self.pause().await,
            Event::Orphaned => self.orphaned().await?,
            Event::Failed(failure) => self.failed(failure).await?,
            Event::Refused(refusal) => self.refused(refusal).await?,
        }
        Ok(())
    }

    fn count_pull(&self, event: &Event) {
        let pulls = &self.js.metrics.pulls;
        let counter = match event {
            Event::Message(_) => return,
            Event::Ended(End::Done | End::Others) => &pulls.ended,
            Event::Ended(End::TooLarge) => &pulls.too_large,
            Event::Lost => &pulls.lost,
            Event::Orphaned => &pulls.orphaned,
            Event::Failed(_) => &pulls.failed,
            Event::Refused(_) => &pulls.refused,
        };
        counter.inc();
    }

    /// What to do about a message that does not fit.
    fn larger(&self) -> Step {
        let is_limited = self.wanted.max_bytes.is_some() || self.limits.bytes < u64::MAX;
        match self.step {
            // It came to the end of its bytes, which are not all there are.
            _ if self.brought > 0 => Step::Sweep,
            Step::Sweep | Step::Wait if self.sweep_bytes < SWEEP_BYTES => Step::Sweep,
            Step::Sweep | Step::Wait => Step::Large,
            Step::Large if self.count == 0 && !is_limited => Step::Huge,
            Step::Large | Step::Huge | Step::End => Step::End,
        }
    }

    async fn orphaned(&mut self) -> Result<(), Problem> {
        let call = self
            .js
            .call(self.wanted.until.max(Instant::now()) + PATIENCE);
        let (stream, consumer) = (self.wanted.stream.as_str(), self.wanted.consumer.as_str());
        let problem = self.js.api.nobody_consumes(stream, consumer, call).await;
        if problem.code() == Code::JetStreamUnavailable {
            return self.pause_or(problem).await;
        }
        self.end_with(problem)
    }

    async fn refused(&mut self, refusal: Refusal) -> Result<(), Problem> {
        match refusal {
            Refusal::TooManyWaiting => {
                let problem = Problem::new(Code::Overloaded)
                    .detail("too many fetches wait at the consumer (its `max_waiting`)");
                self.pause_or(problem).await
            }
            Refusal::Push => self.end_with(is_push()),
            Refusal::Other(text) => self.end_with(
                Problem::new(Code::NatsError)
                    .detail(format!("the consumer refused to deliver: {text}")),
            ),
        }
    }

    async fn failed(&mut self, failure: Failure) -> Result<(), Problem> {
        if failure == Failure::Lost {
            losses::look_into(&self.js, &self.wanted.stream, &self.wanted.consumer);
        }
        let may_heal = matches!(failure, Failure::Lost | Failure::Disconnected);
        // Nothing was changed; what was delivered and did not arrive is delivered again.
        let problem = Problem::from_failure(failure, Doing::JetStream).outcome(Outcome::NotSent);
        if may_heal && self.count == 0 && self.js.call(self.wanted.until).wait {
            return self.pause_or(problem).await;
        }
        self.end_with(problem)
    }

    /// What came so far is an answer; only an answer without any message is a problem.
    fn end_with(&mut self, problem: Problem) -> Result<(), Problem> {
        self.step = Step::End;
        self.held.abandon_pull();
        if self.count == 0 {
            self.receiving.fail(&problem);
            return Err(problem);
        }
        self.ended_by = Some(problem);
        Ok(())
    }

    async fn pause(&mut self) {
        if !self.backoff.pause().await {
            self.step = Step::End;
        }
    }

    async fn pause_or(&mut self, problem: Problem) -> Result<(), Problem> {
        if self.backoff.pause().await {
            return Ok(());
        }
        self.end_with(problem)
    }
}

pub(super) fn is_push() -> Problem {
    Problem::new(Code::Conflict)
        .detail("the consumer is a push consumer; only pull consumers can be fetched from")
}
