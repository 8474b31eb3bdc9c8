//! What every endpoint has, built in or declared: subjects, deadlines, limits, a breaker.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    errors::Findings,
    text::{self, DurationText, written},
};
use crate::subject::{SubjectPattern, SubjectPolicy};

mod rate;

pub use rate::{Quota, Rate, RateKey};

/// What the layers need to know of an endpoint, whichever kind it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The deadline of a request that names none.
    pub timeout: Duration,
    /// The longest deadline a request may name.
    pub timeout_max: Duration,
    /// How many at once, and how many may wait.
    pub concurrency: Concurrency,
    /// How many a second, if limited.
    pub rate: Option<Rate>,
    /// The largest body.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while, if ever.
    pub breaker: Option<Breaker>,
    /// What happens while NATS is away.
    pub when_disconnected: WhenDisconnected,
}

/// Which subjects an endpoint may touch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Subjects")]
pub struct Subjects {
    /// Patterns a subject must lie within. `>` covers no first token that begins with `$` or `_`; name such a token to allow it.
    pub allow: Vec<SubjectPattern>,
    /// Patterns a subject must not overlap.
    pub deny: Vec<SubjectPattern>,
    /// Whether subscribing to `>`, `*` and `*.…` is allowed. Off, because such a reader sees every subject of the account.
    pub root_wildcards: bool,
}

impl Subjects {
    /// The rules themselves.
    #[must_use]
    pub fn policy(&self) -> SubjectPolicy {
        SubjectPolicy {
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            root_wildcards: self.root_wildcards,
        }
    }
}

impl Default for Subjects {
    fn default() -> Self {
        let everything = SubjectPattern::parse(">").expect("a legal pattern");
        Self {
            allow: vec![everything],
            deny: Vec::new(),
            root_wildcards: false,
        }
    }
}

/// How many requests are worked on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Concurrency")]
pub struct Concurrency {
    /// Requests worked on at once. A body that is held whole is there before its request counts, so that slow clients hold no place. The default keeps one endpoint from taking every connection.
    pub limit: usize,
    /// Requests that may wait for a place, each until its deadline; the next one is shed with 503 before its body is read. As many again as `limit` rides out a burst without a queue longer than its deadline.
    pub queue: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            limit: 1024,
            queue: 1024,
        }
    }
}

impl Concurrency {
    /// So many at once, so many waiting.
    #[must_use]
    pub const fn new(limit: usize, queue: usize) -> Self {
        Self { limit, queue }
    }

    pub(super) fn check(self, findings: &mut Findings) {
        findings.require(
            self.limit > 0,
            "limit",
            "must be at least 1; switch the endpoint off to refuse everything",
        );
    }
}

/// When an endpoint stops trying for a while, answering 503 `circuit-open` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Breaker")]
pub struct Breaker {
    /// Failures within `window` that open it. Answers of a responder, the client's own mistakes and shed requests do not count.
    pub failures: u32,
    /// The span failures are counted in.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub window: Duration,
    /// How long it stays open before one request at a time tries again; short, so that a recovery is noticed within seconds.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub open_for: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

impl Breaker {
    pub(super) fn check(self, findings: &mut Findings) {
        findings.require(self.failures > 0, "failures", "must be at least 1");
        findings.require(!self.window.is_zero(), "window", "must be longer than 0");
        findings.require(
            !self.open_for.is_zero(),
            "open_for",
            "must be longer than 0",
        );
    }
}

/// How large something may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SizeLimit {
    /// As large as the NATS server's `max_payload`.
    #[default]
    Auto,
    /// As large as it comes, because it is streamed.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

impl FromStr for SizeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "0" => Ok(Self::Unlimited),
            _ => text::parse_size(text).map(Self::Bytes),
        }
    }
}

impl fmt::Display for SizeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Unlimited => f.write_str("0"),
            Self::Bytes(bytes) => f.write_str(&text::show_size(*bytes)),
        }
    }
}

written!(
    SizeLimit,
    "SizeLimit",
    "auto, 0 (no limit) or a size such as 64KiB",
    ["auto", "64KiB"]
);

/// What happens to a request while NATS is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenDisconnected {
    /// It is answered 503 `nats-disconnected` at once.
    #[default]
    Fail,
    /// It waits for NATS within its own deadline.
    Wait,
}

impl WhenDisconnected {
    /// Whether a request waits.
    #[must_use]
    pub fn waits(self) -> bool {
        self == Self::Wait
    }
}

/// What a 2xx to a publish means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// The message is in the send queue.
    None,
    /// The NATS server has read it and handed it to routing.
    #[default]
    Server,
    /// A stream has stored it.
    Stream,
}

/// What happens to a subscriber that reads too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSlow {
    /// The oldest messages are dropped, and the gap is announced.
    #[default]
    Drop,
    /// The stream ends.
    End,
}

/// A bound in messages and in bytes, whichever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Buffer")]
pub struct Buffer {
    /// So many messages.
    pub messages: usize,
    /// So many bytes.
    #[serde(with = "text::size_usize")]
    #[schemars(with = "text::SizeText")]
    pub bytes: usize,
}

impl Buffer {
    pub(super) fn check(self, findings: &mut Findings) {
        findings.require(self.messages > 0, "messages", "must be at least 1");
        findings.require(self.bytes > 0, "bytes", "must be more than 0");
    }
}

/// What must hold for every endpoint.
pub(super) fn check_policy(policy: &Policy, findings: &mut Findings) {
    let Policy {
        timeout,
        timeout_max,
        concurrency,
        ..
    } = *policy;
    findings.require(
        !timeout.is_zero(),
        "timeout",
        "must be longer than 0: no request is without a deadline",
    );
    if timeout_max < timeout {
        findings.wrong_at(
            "timeout_max",
            format!(
                "must be at least the timeout, {}",
                text::show_duration(timeout)
            ),
        );
    }
    findings.under("concurrency", |findings| concurrency.check(findings));
    if let Some(rate) = &policy.rate {
        findings.under("rate", |findings| rate.check(findings));
    }
    if let Some(breaker) = policy.breaker {
        findings.under("breaker", |findings| breaker.check(findings));
    }
}
