//! `/v1/acks`: settling fetched messages.
//!
//! An ack is sent as a request and counts only when the server has answered it. A token that is not
//! ours, or too old, is refused before anything reaches NATS.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::JetStream;
use super::answer::json as answer;
use super::asked::Asked;
use super::backoff::Backoff;
use super::consumers::ConsumerInfo;
use crate::api::query::{Params, invalid};
use crate::nats::{Call, Failure, Outbound, PendingReply};
use crate::problem::{Code, Doing, Outcome, Problem};
use crate::translate::ack_token::Ack;
use crate::translate::duration;

static ONE: LazyLock<Params> =
    LazyLock::new(|| Params::built_in(&["timeout", "kind", "delay", "reason"]));
static MANY: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["timeout"]));

/// After so long without an answer it is asked whether the consumer is still there.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// Acks on their way at once in a batch.
const IN_FLIGHT_MAX: usize = 256;

const REASON_MAX: usize = 256;

/// What is said about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Ack,
    Nak(Option<Duration>),
    Term(Option<String>),
    Progress,
}

impl Kind {
    fn read(
        kind: Option<&str>,
        delay: Option<&str>,
        reason: Option<&str>,
    ) -> Result<Self, Problem> {
        let delay = delay.map(duration::parse).transpose();
        let delay = delay.map_err(|error| invalid("delay", error))?;
        if let Some(reason) = reason {
            check_reason(reason)?;
        }
        let kind = kind.unwrap_or("ack");
        if delay.is_some() && kind != "nak" {
            return Err(invalid("delay", "goes with kind=nak only"));
        }
        if reason.is_some() && kind != "term" {
            return Err(invalid("reason", "goes with kind=term only"));
        }
        match kind {
            "ack" => Ok(Self::Ack),
            "nak" => Ok(Self::Nak(delay)),
            "term" => Ok(Self::Term(reason.map(str::to_owned))),
            "progress" => Ok(Self::Progress),
            _ => Err(invalid("kind", "is `ack`, `nak`, `term` or `progress`")),
        }
    }

    fn payload(&self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(b"+ACK"),
            Self::Nak(None) => Bytes::from_static(b"-NAK"),
            Self::Nak(Some(delay)) => {
                let nanoseconds = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
                format!("-NAK {{\"delay\":{nanoseconds}}}").into()
            }
            Self::Term(None) => Bytes::from_static(b"+TERM"),
            Self::Term(Some(reason)) => format!("+TERM {reason}").into(),
            Self::Progress => Bytes::from_static(b"+WPI"),
        }
    }
}

fn check_reason(reason: &str) -> Result<(), Problem> {
    if reason.is_empty() || reason.len() > REASON_MAX {
        return Err(invalid("reason", "must be 1 to 256 bytes").limit(REASON_MAX));
    }
    if reason.chars().any(char::is_control) {
        return Err(invalid("reason", "holds a control character"));
    }
    Ok(())
}

/// `POST /v1/acks/{token}`.
///
/// # Errors
/// Only what the contract says.
pub async fn one(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&ONE)?;
    let kind = Kind::read(query.get("kind"), query.get("delay"), query.get("reason"))?;
    let ack = js.tokens.take(asked.captured("token"))?;
    let call = js.call(asked.deadline.at);
    js.settle(&ack, &kind.payload(), None, call, &mut Known::default())
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    acks: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    kind: Option<String>,
    delay: Option<String>,
    reason: Option<String>,
}

/// `POST /v1/acks`.
///
/// # Errors
/// Only what the contract says; what is wrong with one entry stands in its result.
pub async fn many(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    asked.query(&MANY)?;
    let call = js.call(asked.deadline.at);
    let batch: Batch = serde_json::from_slice(&asked.body().await?)
        .map_err(|error| Problem::new(Code::InvalidBody).detail(format!("the body: {error}")))?;
    let mut results = Vec::with_capacity(batch.acks.len());
    let mut under_way = VecDeque::new();
    let mut known = Known::default();
    for entry in &batch.acks {
        if under_way.len() == IN_FLIGHT_MAX {
            js.finish_next(&mut under_way, &mut results, call, &mut known)
                .await;
        }
        under_way.push_back(js.begin(entry, call).await);
    }
    while !under_way.is_empty() {
        js.finish_next(&mut under_way, &mut results, call, &mut known)
            .await;
    }
    Ok(answer(StatusCode::OK, &json!({"results": results})))
}

/// An entry whose ack is on its way.
struct Sent {
    ack: Ack,
    payload: Bytes,
    attempt: Result<PendingReply, Failure>,
}

/// Consumers that were asked about in one batch, so that each is asked about once.
#[derive(Default)]
struct Known(HashMap<(String, String), Result<Arc<ConsumerInfo>, Problem>>);

impl JetStream {
    async fn begin(&self, entry: &Entry, call: Call) -> Result<Sent, Problem> {
        let kind = Kind::read(
            entry.kind.as_deref(),
            entry.delay.as_deref(),
            entry.reason.as_deref(),
        )?;
        let ack = self.tokens.take(&entry.token)?;
        let payload = kind.payload();
        let attempt = self.attempt(&ack, &payload, call).await;
        Ok(Sent {
            ack,
            payload,
            attempt,
        })
    }

    async fn finish_next(
        &self,
        under_way: &mut VecDeque<Result<Sent, Problem>>,
        results: &mut Vec<Value>,
        call: Call,
        known: &mut Known,
    ) {
        let Some(sent) = under_way.pop_front() else {
            return;
        };
        let settled = match sent {
            Ok(Sent {
                ack,
                payload,
                attempt,
            }) => {
                self.settle(&ack, &payload, Some(attempt), call, known)
                    .await
            }
            Err(problem) => Err(problem),
        };
        results.push(match settled {
            Ok(()) => json!({"status": StatusCode::NO_CONTENT.as_u16()}),
            Err(problem) => json!({
                "status": problem.http_status().as_u16(),
                "problem": problem.to_json(None),
            }),
        });
    }

    async fn attempt(
        &self,
        ack: &Ack,
        payload: &Bytes,
        call: Call,
    ) -> Result<PendingReply, Failure> {
        let message = Outbound::new(ack.reply.clone(), payload.clone());
        let connection = self.api.link().connection(call).await?;
        connection.begin_request(message)
    }

    /// Tells the server, again and again until it confirms, or until it is certain that nobody will.
    async fn settle(
        &self,
        ack: &Ack,
        payload: &Bytes,
        first: Option<Result<PendingReply, Failure>>,
        call: Call,
        known: &mut Known,
    ) -> Result<(), Problem> {
        let mut backoff = Backoff::until(call.deadline);
        let mut may_have_arrived = false;
        let mut attempt = first;
        loop {
            let begun = match attempt.take() {
                Some(begun) => begun,
                None => self.attempt(ack, payload, call).await,
            };
            let patience = call.deadline.min(Instant::now() + ASK_AFTER);
            let answered = match begun {
                Ok(pending) => pending.reply(patience).await,
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(_) => return Ok(()),
                Err(Failure::NoResponders) => {}
                Err(Failure::Timeout) => may_have_arrived = true,
                Err(failure) => return Err(unsettled(failure, may_have_arrived)),
            }
            self.is_there(ack, call, known, &mut may_have_arrived)
                .await?;
            if !backoff.pause().await {
                return Err(unavailable(may_have_arrived));
            }
        }
    }

    /// Whether the consumer that delivered the message is still there.
    async fn is_there(
        &self,
        ack: &Ack,
        call: Call,
        known: &mut Known,
        may_have_arrived: &mut bool,
    ) -> Result<(), Problem> {
        let key = (ack.stream.clone(), ack.consumer.clone());
        let info = match known.0.get(&key) {
            Some(known) => known.clone(),
            None => {
                let info = self
                    .api
                    .consumer_info(&ack.stream, &ack.consumer, call)
                    .await
                    .map(Arc::new);
                if info.is_ok() || is_gone(&info) {
                    known.0.insert(key, info.clone());
                }
                info
            }
        };
        match info {
            // It will never confirm what another one of its name has delivered.
            Ok(info) if info.is_another(ack.seq, self.tokens.given_at(ack)) => {
                Err(Problem::new(Code::ConsumerNotFound)
                    .detail("the consumer was created anew and has not delivered this message"))
            }
            Ok(_) => Ok(()),
            Err(problem) if problem.http_status() == StatusCode::NOT_FOUND => Err(problem),
            Err(_) if Instant::now() < call.deadline => Ok(()),
            Err(_) => Err(unavailable(*may_have_arrived)),
        }
    }
}

fn is_gone(info: &Result<Arc<ConsumerInfo>, Problem>) -> bool {
    info.as_ref()
        .is_err_and(|problem| problem.http_status() == StatusCode::NOT_FOUND)
}

fn unsettled(failure: Failure, may_have_arrived: bool) -> Problem {
    let problem = Problem::from_failure(failure, Doing::JetStream);
    if may_have_arrived && failure.is_not_sent() {
        return problem.outcome(Outcome::Unknown).retryable(true);
    }
    let is_unknown = problem.message_outcome() == Outcome::Unknown;
    let retryable = problem.is_retryable() || is_unknown;
    problem.retryable(retryable)
}

/// An ack can be sent again whatever became of it: its token is good for that.
fn unavailable(may_have_arrived: bool) -> Problem {
    let problem = Problem::new(Code::JetStreamUnavailable);
    if !may_have_arrived {
        return problem;
    }
    problem
        .detail("the consumer's leader did not confirm in time")
        .outcome(Outcome::Unknown)
        .retryable(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(kind: Option<&str>, delay: Option<&str>, reason: Option<&str>) -> Option<String> {
        let kind = Kind::read(kind, delay, reason).ok()?;
        Some(String::from_utf8(kind.payload().to_vec()).unwrap())
    }

    #[test]
    fn each_kind_has_its_payload() {
        for (kind, delay, reason, expected) in [
            (None, None, None, "+ACK"),
            (Some("ack"), None, None, "+ACK"),
            (Some("nak"), None, None, "-NAK"),
            (Some("nak"), Some("5s"), None, "-NAK {\"delay\":5000000000}"),
            (Some("term"), None, None, "+TERM"),
            (Some("term"), None, Some("bad order"), "+TERM bad order"),
            (Some("progress"), None, None, "+WPI"),
        ] {
            assert_eq!(payload(kind, delay, reason).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let long = "x".repeat(257);
        for (kind, delay, reason) in [
            (Some("ACK"), None, None),
            (Some(""), None, None),
            (Some("ack"), Some("5s"), None),
            (None, Some("5s"), None),
            (Some("nak"), Some("5"), None),
            (Some("nak"), None, Some("x")),
            (Some("term"), None, Some("")),
            (Some("term"), None, Some("a\nb")),
            (Some("term"), None, Some(&long)),
            (Some("progress"), Some("1s"), None),
        ] {
            assert_eq!(payload(kind, delay, reason), None, "{kind:?} {delay:?}");
        }
    }

    #[test]
    fn an_ack_whose_fate_is_not_known_may_be_sent_again() {
        let problem = unavailable(true);
        assert_eq!(problem.message_outcome(), Outcome::Unknown);
        assert!(problem.is_retryable());
        assert!(unsettled(Failure::Lost, false).is_retryable());
        assert!(!unsettled(Failure::PermissionDenied, false).is_retryable());
    }
}
