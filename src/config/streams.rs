//! `streams`: what all open streams have in common.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    errors::Findings,
    text::{self, DurationText},
};

/// What all open streams have in common: SSE, NDJSON and WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Streams {
    /// How often a silent stream sends a sign of life; a vanished client is noticed within two. 15 s stays below the idle timeouts of proxies (often 30 or 60 s).
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub keep_alive: Duration,
    /// How long a stream may last before it ends with reason `max-age`, jittered; `0` is no limit. Useful to spread clients over new replicas.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub max_age: Duration,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(15),
            max_age: Duration::ZERO,
        }
    }
}

impl Streams {
    /// The limit, if there is one.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        (!self.max_age.is_zero()).then_some(self.max_age)
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        findings.require(
            !self.keep_alive.is_zero(),
            "keep_alive",
            "must be longer than 0: without it a vanished client is never noticed",
        );
    }
}
