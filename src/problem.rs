//! The one catalogue of errors that natsway answers with (RFC 9457, `application/problem+json`).
//!
//! A caller needs three answers that a status alone does not give: did anything leave natsway
//! (`outcome`), is it safe to try again (`retryable`), and who failed (`source`). Lower layers have
//! small errors of their own and know no HTTP; what they mean to a caller is decided here, in this
//! module's `From` implementations, and nowhere else.
//!
//! A `Problem` becomes a response whose body is still empty: the outermost layer knows the request
//! id and writes the body with [`Problem::to_json`], after logs and metrics have read the value.

mod catalogue;
mod from_ack_token;
mod from_headers;
mod from_jetstream;
mod from_line;
mod from_nats;
mod from_subject;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

pub use catalogue::Code;
pub use from_jetstream::JetStreamError;
pub use from_nats::Doing;

use crate::nats::Drawn;

/// The media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What became of the message that the caller handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing left natsway.
    NotSent,
    /// NATS or the responder refused it.
    Rejected,
    /// It may or may not have arrived.
    Unknown,
}

impl Outcome {
    /// The word in the body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

/// Who failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The HTTP client.
    Client,
    /// natsway itself, or its configuration.
    Bridge,
    /// A NATS server.
    Nats,
    /// The service that answered over NATS.
    Responder,
}

impl Source {
    /// The word in the body, in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Bridge => "bridge",
            Self::Nats => "nats",
            Self::Responder => "responder",
        }
    }
}

/// One error, as the caller will read it.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    outcome: Outcome,
    retryable: bool,
    source: Source,
    retry_after: Option<Duration>,
    members: Option<Box<Map<String, Value>>>,
    raw: Option<Arc<Raw>>,
}

/// A member that is passed on byte for byte, however many there are of the problem.
#[derive(Debug)]
struct Raw {
    name: &'static str,
    json: String,
    held: Arc<Drawn>,
}

impl Problem {
    /// A problem with the catalogue's status, source, outcome and retry advice.
    #[must_use]
    pub fn new(code: Code) -> Self {
        let entry = code.entry();
        Self {
            code,
            status: entry.status,
            detail: Cow::Borrowed(entry.detail),
            outcome: entry.outcome,
            retryable: entry.retryable,
            source: entry.source,
            retry_after: None,
            members: None,
            raw: None,
        }
    }

    /// Says what happened here and what to do, in one sentence. Never holds a secret or a payload.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Sets the outcome. `NotSent` for a passing cause (503, 429) is retryable; see [`Self::retryable`].
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self.retryable = outcome == Outcome::NotSent && self.code.entry().passing;
        self
    }

    /// Overrides the retry advice, as for an unknown outcome under an `Idempotency-Key`.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Overrides who failed.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Overrides the status where a code has several (`batch-incomplete`, `service-error`).
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The limit that was passed.
    #[must_use]
    pub fn limit(self, limit: impl Into<Value>) -> Self {
        self.member("limit", limit.into())
    }

    /// The value that broke a limit or a precondition.
    #[must_use]
    pub fn current(self, current: impl Into<Value>) -> Self {
        self.member("current", current.into())
    }

    /// What NATS said: its `err_code` and description.
    #[must_use]
    pub fn nats(self, err_code: u64, description: &str) -> Self {
        self.member(
            "nats",
            json!({"err_code": err_code, "description": description}),
        )
    }

    /// When to try again, for the `Retry-After` header (whole seconds, at least one).
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// An extension member (RFC 9457, section 3.2).
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members
            .get_or_insert_default()
            .insert(name.to_owned(), value.into());
        self
    }

    /// One more member, whose value is JSON that is passed on byte for byte. Somebody else made it as long
    /// as it is, so it was paid for.
    #[must_use]
    pub fn raw_member(mut self, name: &'static str, json: String, held: Drawn) -> Self {
        let held = Arc::new(held);
        self.raw = Some(Arc::new(Raw { name, json, held }));
        self
    }

    /// What was drawn for the raw member. Whoever writes the problem down holds it for as long as that.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Drawn>> {
        self.raw.as_ref().map(|raw| Arc::clone(&raw.held))
    }

    /// The stable word for this kind of error.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The HTTP status.
    #[must_use]
    pub const fn http_status(&self) -> StatusCode {
        self.status
    }

    /// Who failed.
    #[must_use]
    pub const fn failed_by(&self) -> Source {
        self.source
    }

    /// What became of the message.
    #[must_use]
    pub const fn message_outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether trying again is safe and may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The sentence for the caller.
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.detail
    }

    /// The body as text; `request_id` is left out where there is none (a line of a batch).
    #[must_use]
    pub fn to_text(&self, request_id: Option<&str>) -> String {
        let mut text = self.without_raw(request_id).to_string();
        if let Some(Raw { name, json, .. }) = self.raw.as_deref() {
            text.pop();
            text.reserve_exact(name.len() + json.len() + 5);
            for part in [",\"", name, "\":", json, "}"] {
                text.push_str(part);
            }
        }
        text
    }

    /// The same as a value, for what goes into other JSON. A number that is too long for it is rounded.
    #[must_use]
    pub fn to_json(&self, request_id: Option<&str>) -> Value {
        let mut body = self.without_raw(request_id);
        if let Some(Raw { name, json, .. }) = self.raw.as_deref() {
            body[*name] = serde_json::from_str(json).unwrap_or_default();
        }
        body
    }

    fn without_raw(&self, request_id: Option<&str>) -> Value {
        let mut body = json!({
            "type": format!("urn:natsway:problem:{}", self.code.as_str()),
            "title": self.code.entry().title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code.as_str(),
            "source": self.source.as_str(),
            "outcome": self.outcome.as_str(),
            "retryable": self.retryable,
        });
        let object = body
            .as_object_mut()
            .expect("the literal above is an object");
        if let Some(id) = request_id {
            object.insert("request_id".to_owned(), id.into());
        }
        if let Some(members) = &self.members {
            object.extend(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        body
    }

    /// Seconds for `Retry-After`: every 429 and 503 has one.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let needs_one = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        match self.retry_after {
            Some(after) => Some(
                after
                    .as_millis()
                    .div_ceil(1000)
                    .max(1)
                    .try_into()
                    .unwrap_or(u64::MAX),
            ),
            None => needs_one.then_some(1),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE
            && self.code == Code::UnsupportedMediaType
        {
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_what_the_contract_promises() {
        let body = Problem::new(Code::PayloadTooLarge)
            .limit(1_048_576)
            .to_json(Some("r-1"));
        assert_eq!(body["type"], "urn:natsway:problem:payload-too-large");
        assert_eq!(body["status"], 413);
        assert_eq!(body["outcome"], "not_sent");
        assert_eq!(body["retryable"], false);
        assert_eq!(body["source"], "client");
        assert_eq!(body["limit"], 1_048_576);
        assert_eq!(body["request_id"], "r-1");
    }

    #[test]
    fn every_503_says_when_to_try_again() {
        for code in Code::ALL {
            let problem = Problem::new(*code);
            let status = problem.http_status().as_u16();
            assert_eq!(
                problem.retry_after_seconds().is_some(),
                status == 503 || status == 429,
                "{code:?}"
            );
        }
    }

    #[test]
    fn an_unknown_outcome_is_never_retryable_by_default() {
        for code in Code::ALL {
            let problem = Problem::new(*code).outcome(Outcome::Unknown);
            assert!(!problem.is_retryable(), "{code:?}");
        }
    }
}
