//! `POST /v1/publish` and `POST /v1/publish/{subject}?split=lines`, streamed. Subjects are those of `publish`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SECOND;
use crate::config::{
    endpoint::{Breaker, Concurrency, Rate, SizeLimit, WhenDisconnected},
    errors::Findings,
    text::{self, DurationText, Switched},
};

/// `POST /v1/publish` and `POST /v1/publish/{subject}?split=lines`, streamed. Subjects are those of `publish`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The deadline for progress: how long a fence or an ack may take. It is not for the whole body.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline for progress a request may name.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How long the client may send nothing, so that a stalled upload does not hold one of the few places.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub idle_timeout: Duration,
    /// How many at once, and how many may wait. Few, because one batch can fill a connection to NATS.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body; no limit by default, because it is never held whole.
    pub body_limit: SizeLimit,
    /// The longest line; `auto` is the server's `max_payload`. A longer one is skipped and reported.
    pub line_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            enabled: true,
            timeout: SECOND * 5,
            timeout_max: SECOND * 30,
            idle_timeout: SECOND * 30,
            concurrency: Concurrency::new(16, 16),
            rate: None,
            body_limit: SizeLimit::Unlimited,
            line_limit: SizeLimit::Auto,
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
        }
    }
}

impl Switched for Batch {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

endpoint!(
    Batch,
    |batch: &Batch| batch.body_limit,
    |batch: &Batch, findings: &mut Findings| {
        findings.require(
            !batch.idle_timeout.is_zero(),
            "idle_timeout",
            "must be longer than 0",
        );
        findings.require(
            batch.line_limit != SizeLimit::Unlimited,
            "line_limit",
            "must be `auto` or a size: a line is held whole",
        );
    }
);
