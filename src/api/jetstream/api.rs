//! One call of JetStream's API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::nats::{Call, Failure, Link, Nats, Outbound};
use crate::problem::{Code, Doing, JetStreamError, Outcome, Problem, Source};

const PREFIX: &str = "$JS.API";

/// A question that got lost in an election is asked again after so long.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(1500);

/// How often a server without JetStream is asked: one that just started may not yet know the others.
const ATTEMPTS_WITHOUT_JETSTREAM: u32 = 4;

/// Whether a call changes something. What only reads can be repeated whatever became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
}

/// JetStream's API as one NATS user sees it.
#[derive(Clone, Debug)]
pub struct Api {
    nats: Arc<Nats>,
}

impl Api {
    /// The API behind these connections.
    #[must_use]
    pub fn new(nats: &Arc<Nats>) -> Self {
        Self {
            nats: Arc::clone(nats),
        }
    }

    /// NATS itself.
    #[must_use]
    pub const fn nats(&self) -> &Arc<Nats> {
        &self.nats
    }

    /// The link that carries the API, pulls and acks.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        self.nats.jetstream()
    }

    /// Asks `$JS.API.<verb>` something that changes nothing; asked again while JetStream is between
    /// two leaders.
    ///
    /// # Errors
    /// What JetStream says, or that it did not answer; nothing was changed.
    pub async fn read<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
        call: Call,
    ) -> Result<T, Problem> {
        decode(&self.ask(Effect::Reads, verb, body, call).await?)
    }

    /// Tells `$JS.API.<verb>` to change something. Repeated only where JetStream says that it did
    /// nothing.
    ///
    /// # Errors
    /// As [`Self::read`]; the outcome is unknown where no answer came.
    pub async fn change<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
        call: Call,
    ) -> Result<T, Problem> {
        decode(&self.ask(Effect::Changes, verb, body, call).await?)
    }

    async fn ask(
        &self,
        effect: Effect,
        verb: &str,
        body: &impl Serialize,
        call: Call,
    ) -> Result<Bytes, Problem> {
        let payload = serde_json::to_vec(body).expect("a request of ours can be written as JSON");
        let message = Outbound::new(format!("{PREFIX}.{verb}").into(), payload.into());
        let mut backoff = Backoff::until(call.deadline);
        let mut attempts_alone = 0;
        loop {
            let problem = match self.attempt(effect, message.clone(), call).await {
                Err(problem) if is_passing(&problem) => problem,
                Err(problem) if problem.code() == Code::JetStreamNotEnabled => {
                    attempts_alone += 1;
                    if attempts_alone == ATTEMPTS_WITHOUT_JETSTREAM {
                        return Err(problem);
                    }
                    problem
                }
                done => return done,
            };
            if !backoff.pause().await {
                return Err(problem);
            }
        }
    }

    async fn attempt(
        &self,
        effect: Effect,
        message: Outbound,
        call: Call,
    ) -> Result<Bytes, Problem> {
        // The wait for a connection may use the whole deadline, the wait for an answer may not.
        let connection = self.link().connection(call).await.map_err(failed)?;
        let patience = match effect {
            Effect::Reads => call.deadline.min(Instant::now() + READ_AGAIN_AFTER),
            Effect::Changes => call.deadline,
        };
        let has_jetstream = connection.server().jetstream;
        let answer = match connection.begin_request(message) {
            Ok(pending) => pending.reply(patience).await.map(|reply| reply.message),
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(reply) => match error_in(&reply.payload)? {
                None => Ok(reply.payload),
                Some(error) => Err(Problem::from_jetstream(&error)),
            },
            Err(Failure::NoResponders) if has_jetstream => {
                Err(Problem::new(Code::JetStreamUnavailable))
            }
            Err(Failure::NoResponders) => Err(Problem::new(Code::JetStreamNotEnabled)),
            Err(failure) if effect == Effect::Reads => {
                Err(failed(failure).outcome(Outcome::NotSent))
            }
            Err(failure) => Err(failed(failure)),
        }
    }
}

fn failed(failure: Failure) -> Problem {
    Problem::from_failure(failure, Doing::JetStream)
}

/// Whether the same call may succeed in a moment, and nothing was done so far.
pub(super) fn is_passing(problem: &Problem) -> bool {
    problem.code() == Code::JetStreamUnavailable && problem.is_retryable()
}

#[derive(Deserialize)]
struct Refused {
    error: Option<JetStreamError>,
}

fn error_in(payload: &[u8]) -> Result<Option<JetStreamError>, Problem> {
    serde_json::from_slice::<Refused>(payload)
        .map(|answer| answer.error)
        .map_err(|_| not_understood())
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(payload).map_err(|_| not_understood())
}

fn not_understood() -> Problem {
    Problem::new(Code::BadReply)
        .source(Source::Nats)
        .detail("what JetStream's API answered could not be understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_and_what_is_no_json_is_a_bad_reply() {
        assert_eq!(error_in(br#"{"streams":[]}"#).unwrap(), None);
        let error = error_in(br#"{"type":"x","error":{"code":404,"err_code":10059}}"#);
        assert_eq!(error.unwrap().unwrap().err_code, 10059);
        for damaged in [&b""[..], b"-ERR", b"[]", b"{", b"\xff"] {
            assert_eq!(error_in(damaged).unwrap_err().code(), Code::BadReply);
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_repeated() {
        let unavailable = Problem::new(Code::JetStreamUnavailable);
        assert!(is_passing(&unavailable));
        assert!(!is_passing(&unavailable.outcome(Outcome::Unknown)));
        assert!(!is_passing(&Problem::new(Code::NatsDisconnected)));
    }
}
