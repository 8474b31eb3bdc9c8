//! `POST /v1/publish/{subject}`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SECOND;
use crate::config::{
    endpoint::{Breaker, Concurrency, Confirm, Rate, SizeLimit, Subjects, WhenDisconnected},
    text::{self, DurationText, Switched},
};

/// `POST /v1/publish/{subject}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects it may touch.
    pub subjects: Subjects,
    /// What a 2xx means for a request that does not say.
    pub confirm: Confirm,
    /// The deadline of a request that names none. A confirmed publish takes milliseconds; 5 s outlasts an election.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline a request may name, so that what hangs cannot hold a place for long.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many at once, and how many may wait.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body; `auto` is the server's `max_payload`, more could not be sent.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            confirm: Confirm::Server,
            timeout: SECOND * 5,
            timeout_max: SECOND * 30,
            concurrency: Concurrency::new(1024, 1024),
            rate: None,
            body_limit: SizeLimit::Auto,
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
        }
    }
}

impl Switched for Publish {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

endpoint!(Publish, |publish: &Publish| publish.body_limit, |_, _| ());
