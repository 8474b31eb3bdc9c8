//! `/v1/acks`: settling fetched messages.
//!
//! An ack is sent as a request and counts only when the server has answered it. A token that is not
//! ours, or too old, is refused before anything reaches NATS.

mod batch;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::JetStream;
use super::asked::Asked;
use super::backoff::Backoff;
use super::consumers::ConsumerInfo;
use super::traced::SettleSpan;
use crate::api::query::{Params, invalid};
use crate::nats::{Call, Failure, Outbound, PendingReply};
use crate::problem::{Code, Doing, Outcome, Problem};
use crate::telemetry::traces::names;
use crate::translate::ack_token::Ack;
use crate::translate::duration;

pub use batch::many;

static ONE: LazyLock<Params> =
    LazyLock::new(|| Params::built_in(&["timeout", "kind", "delay", "reason"]));

/// After so long without an answer it is asked whether the consumer is still there.
const ASK_AFTER: Duration = Duration::from_secs(1);

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

    /// Its word on the wire, as the name of a span.
    const fn name(&self) -> &'static str {
        match self {
            Self::Ack => names::ACK,
            Self::Nak(_) => names::NAK,
            Self::Term(_) => names::TERM,
            Self::Progress => names::WPI,
        }
    }

    /// Which of the counters is its.
    const fn counted(&self) -> usize {
        match self {
            Self::Ack => 0,
            Self::Nak(_) => 1,
            Self::Term(_) => 2,
            Self::Progress => 3,
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
    let call = js.call(asked.deadline.at);
    let settled = match js.tokens.take(asked.captured("token")) {
        Ok(ack) => {
            let settling = SettleSpan::one(asked.origin, kind.name(), &ack);
            let known = &mut Known::default();
            let settled = js.settle(&ack, &kind.payload(), None, call, known).await;
            settling.end(&settled);
            settled
        }
        Err(problem) => Err(problem),
    };
    js.count(kind.counted(), &settled);
    settled?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An ack on its way since then.
struct Attempt {
    begun: Result<PendingReply, Failure>,
    at: Instant,
}

/// Consumers that were asked about in one batch, so that each is asked about once.
#[derive(Default)]
struct Known(HashMap<(String, String), Result<Arc<ConsumerInfo>, Problem>>);

impl JetStream {
    async fn attempt(&self, ack: &Ack, payload: &Bytes, call: Call) -> Attempt {
        let message = Outbound::new(ack.reply.clone(), payload.clone());
        let begun = match self.api.link().connection(call).await {
            Ok(connection) => connection.begin_request(message),
            Err(failure) => Err(failure),
        };
        Attempt {
            begun,
            at: Instant::now(),
        }
    }

    fn count(&self, counted: usize, settled: &Result<(), Problem>) {
        let acks = &self.metrics.acks[counted];
        let counter = match settled {
            Ok(()) => &acks.confirmed,
            Err(problem) if problem.http_status().is_client_error() => &acks.refused,
            Err(_) => &acks.failed,
        };
        counter.inc();
    }

    /// Tells the server, again and again until it confirms, or until it is certain that nobody will.
    async fn settle(
        &self,
        ack: &Ack,
        payload: &Bytes,
        first: Option<Attempt>,
        call: Call,
        known: &mut Known,
    ) -> Result<(), Problem> {
        let mut backoff = Backoff::until(call.deadline);
        let mut may_have_arrived = false;
        let mut attempt = first;
        loop {
            let Attempt { begun, at } = match attempt.take() {
                Some(attempt) => attempt,
                None => self.attempt(ack, payload, call).await,
            };
            let patience = call.deadline.min(at + ASK_AFTER);
            let answered = match begun {
                Ok(pending) => pending.reply(patience).await.map(|reply| reply.message),
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
            self.metrics.ack_retries.inc();
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
