//! `/v1/streams/…` and `/v1/acks/…`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SECOND;
use crate::config::{
    endpoint::{Breaker, Concurrency, Rate, SizeLimit, Subjects, WhenDisconnected},
    errors::Findings,
    text::{self, DurationText, Switched},
};

/// `/v1/streams/…` and `/v1/acks/…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JetStream {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects that may be read: those of stored messages and of filters. An ack needs its token and nothing else.
    pub subjects: Subjects,
    /// The deadline of a request that names none. A fetch waits for messages within it.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline, and so the longest `wait` of a fetch, a request may name.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many at once, and how many may wait.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body: a stream's configuration, or a list of ack tokens.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
    /// Readers of streams that may catch up at once, each with a consumer of its own on the server; others wait. Readers that have caught up share one feed.
    pub catchups_max: usize,
}

impl Default for JetStream {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            timeout: SECOND * 5,
            timeout_max: SECOND * 60,
            concurrency: Concurrency::new(1024, 1024),
            rate: None,
            body_limit: SizeLimit::Bytes(1 << 20),
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
            catchups_max: 128,
        }
    }
}

impl Switched for JetStream {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

endpoint!(
    JetStream,
    |jetstream: &JetStream| jetstream.body_limit,
    |jetstream: &JetStream, findings: &mut Findings| {
        findings.require(
            jetstream.catchups_max > 0,
            "catchups_max",
            "must be at least 1",
        );
    }
);
