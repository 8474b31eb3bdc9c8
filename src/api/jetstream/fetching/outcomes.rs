//! What a fetch does about the end of a pull.

use tokio::time::Instant;

use super::{Fetching, PATIENCE};
use crate::api::jetstream::losses;
use crate::api::jetstream::pull::{End, Event, Refusal};
use crate::nats::Failure;
use crate::problem::{Code, Doing, Outcome, Problem};

impl Fetching {
    /// What comes after a pull that brought its last message.
    pub(super) async fn after(&mut self, event: Event) -> Result<(), Problem> {
        self.count_pull(&event);
        match event {
            Event::Lost => self.unanswered = true,
            Event::Ended(_) => self.unanswered = false,
            _ => {}
        }
        match event {
            Event::Message(_) => {}
            Event::Ended(end) => self.steps.ended(end, self.budget.is_empty()),
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

    pub(super) async fn failed(&mut self, failure: Failure) -> Result<(), Problem> {
        if failure == Failure::Lost {
            losses::look_into(&self.js, &self.wanted.stream, &self.wanted.consumer);
        }
        let may_heal = matches!(failure, Failure::Lost | Failure::Disconnected);
        // Nothing was changed; what was delivered and did not arrive is delivered again.
        let problem = Problem::from_failure(failure, Doing::JetStream).outcome(Outcome::NotSent);
        if may_heal && self.budget.is_empty() && self.js.call(self.wanted.until).wait {
            return self.pause_or(problem).await;
        }
        self.end_with(problem)
    }

    /// What came so far is an answer; only an answer without any message is a problem.
    pub(super) fn end_with(&mut self, problem: Problem) -> Result<(), Problem> {
        self.steps.end();
        self.held.abandon_pull();
        if self.budget.is_empty() {
            self.receiving.fail(&problem);
            return Err(problem);
        }
        self.ended_by = Some(problem);
        Ok(())
    }

    async fn pause(&mut self) {
        if !self.backoff.pause().await {
            self.steps.end();
        }
    }

    pub(super) async fn pause_or(&mut self, problem: Problem) -> Result<(), Problem> {
        if self.backoff.pause().await {
            return Ok(());
        }
        self.end_with(problem)
    }
}

pub(in crate::api::jetstream) fn is_push() -> Problem {
    Problem::new(Code::Conflict)
        .detail("the consumer is a push consumer; only pull consumers can be fetched from")
}
