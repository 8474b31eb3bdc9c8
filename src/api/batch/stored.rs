//! Lines that a stream has to store.

use std::collections::HashMap;

use tokio::time::Instant;

use super::flight::{Outcome, Sent};
use super::source::Addressed;
use super::upload::Upload;
use crate::api::jetstream::PubAck;
use crate::api::publish::advise;
use crate::nats::{Call, Failure};
use crate::problem::{Code, Outcome as Became, Problem};
use crate::subject::Subject;

/// How many subjects are remembered that no stream holds.
const UNHELD_MAX: usize = 256;

enum Verdict {
    Stored(PubAck),
    /// It is not stored, and will not be.
    Refused(Problem),
    /// It is not stored because no leader is there; one will be.
    Passing(Problem),
    /// What the connection says of it.
    Lost(Failure),
}

/// A line that waits for a leader.
struct HeldBack {
    line: u64,
    addressed: Addressed,
    problem: Problem,
}

impl Upload<'_> {
    pub(super) async fn answered(&mut self, line: u64, addressed: Addressed, outcome: Outcome) {
        let call = self.call();
        if let Some(held) = self.settle(line, addressed, outcome, Some(call)).await {
            self.wait_for_leader(held, call).await;
        }
    }

    /// Takes note of an outcome; a line that only waits for a leader comes back. Without a call to ask
    /// JetStream with, each that nobody took does.
    async fn settle(
        &mut self,
        line: u64,
        addressed: Addressed,
        outcome: Outcome,
        ask: Option<Call>,
    ) -> Option<HeldBack> {
        match self.judge(&addressed, outcome, ask).await {
            Verdict::Stored(ack) => self.report.stored(ack),
            Verdict::Refused(problem) => self.refused(line, &addressed, problem),
            Verdict::Lost(failure) => self.lost(&[line], failure),
            Verdict::Passing(problem) => {
                return Some(HeldBack {
                    line,
                    addressed,
                    problem,
                });
            }
        }
        None
    }

    fn refused(&mut self, line: u64, addressed: &Addressed, problem: Problem) {
        // Without JetStream no other line will fare better, and each would wait for it.
        if matches!(
            problem.code(),
            Code::JetStreamNotEnabled | Code::NatsDisconnected
        ) {
            self.report.stop(problem.clone());
        }
        let problem = advise(problem, &addressed.message);
        self.report.failed(line, &problem);
    }

    async fn judge(
        &mut self,
        addressed: &Addressed,
        outcome: Outcome,
        ask: Option<Call>,
    ) -> Verdict {
        let reply = match outcome {
            Ok(Some(reply)) => reply,
            Ok(None) => return Verdict::Lost(Failure::Lost),
            Err(Failure::NoResponders) => return self.nobody(&addressed.subject, ask).await,
            Err(failure) => return Verdict::Lost(failure),
        };
        let at_once = Call {
            deadline: Instant::now(),
            wait: false,
        };
        let Addressed { subject, message } = addressed;
        let concluded = self
            .jetstream
            .conclude(subject, message, Ok(reply), None, at_once);
        concluded.await.map_or_else(refusal, Verdict::Stored)
    }

    async fn nobody(&mut self, subject: &Subject, ask: Option<Call>) -> Verdict {
        if self.unheld.contains(subject) {
            return Verdict::Refused(Problem::new(Code::NoStream));
        }
        let Some(call) = ask else {
            return Verdict::Passing(Problem::new(Code::JetStreamUnavailable));
        };
        let problem = self.jetstream.nobody_stored(subject, call).await;
        if problem.code() == Code::NoStream {
            if self.unheld.len() >= UNHELD_MAX {
                self.unheld.clear();
            }
            self.unheld.insert(subject.clone());
        }
        refusal(problem)
    }

    /// Nothing else is under way when a line is tried again, and none that another of its subject
    /// has overtaken: order holds. The call began with the first that waits; each that is stored begins
    /// another, because the deadline is for progress.
    async fn wait_for_leader(&mut self, first: HeldBack, mut call: Call) {
        let mut held = vec![first];
        let mut overtaken_by: HashMap<Subject, u64> = HashMap::new();
        while let Some((sent, outcome)) = self.next_outcome().await {
            let Sent::ForStream(line, addressed) = sent else {
                continue;
            };
            let stored = matches!(outcome, Ok(Some(_)));
            let subject = addressed.subject.clone();
            // JetStream has been asked, for the first.
            match self.settle(line, addressed, outcome, None).await {
                Some(waits) => held.push(waits),
                // A refusal counts as well, which is only too careful.
                None if stored => {
                    overtaken_by.insert(subject, line);
                    call = self.call();
                }
                None => {}
            }
        }
        let mut is_back = false;
        for waits in held {
            let overtaken = overtaken_by.get(&waits.addressed.subject);
            let is_too_late = overtaken.is_some_and(|line| *line > waits.line);
            if is_too_late || self.report.is_stopped() {
                self.report.failed(waits.line, &waits.problem);
            } else if self.try_again(waits, is_back, call).await {
                is_back = true;
                call = self.call();
            }
        }
    }

    /// What is still under way; once stopped, only what is known of it.
    async fn next_outcome(&mut self) -> Option<(Sent, Outcome)> {
        match (self.flight.is_empty(), self.report.is_stopped()) {
            (true, _) => None,
            (false, true) => self.flight.give_up().await,
            (false, false) => Some(self.flight.oldest().await),
        }
    }

    /// Says whether JetStream has answered.
    async fn try_again(&mut self, waits: HeldBack, is_back: bool, call: Call) -> bool {
        let HeldBack {
            line,
            addressed,
            problem,
        } = waits;
        if Instant::now() >= call.deadline {
            self.report.stop(problem.clone());
            self.report.failed(line, &problem);
            return false;
        }
        let Addressed { subject, message } = &addressed;
        let stored = match is_back {
            true => self.jetstream.store(subject, message, None, call).await,
            // Asked first: sent shortly before the deadline, it could be stored and nobody would know.
            false => {
                let nobody = Err(Failure::NoResponders);
                let concluded = self
                    .jetstream
                    .conclude(subject, message, nobody, None, call);
                concluded.await
            }
        };
        match stored {
            Ok(ack) => self.report.stored(ack),
            Err(problem) => {
                // It lasts longer than the time without progress may.
                if is_passing(&problem) || problem.message_outcome() == Became::Unknown {
                    self.report.stop(problem.clone());
                }
                self.refused(line, &addressed, problem);
            }
        }
        !self.report.is_stopped()
    }
}

fn refusal(problem: Problem) -> Verdict {
    match is_passing(&problem) {
        true => Verdict::Passing(problem),
        false => Verdict::Refused(problem),
    }
}

fn is_passing(problem: &Problem) -> bool {
    problem.code() == Code::JetStreamUnavailable && problem.is_retryable()
}
