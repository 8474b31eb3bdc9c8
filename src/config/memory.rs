//! `memory`: bounds for the process as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    errors::Findings,
    text::{self, SizeText},
};

/// Bounds for the process as a whole, whatever the single limits add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Request and reply bodies held at once, drawn before a body is read; over it 503 `overloaded`. 64 MiB is 64 of NATS's usual largest messages. What a container's limit must be above, `docs/operating.md` says under Sizing.
    #[serde(with = "text::size")]
    #[schemars(with = "SizeText")]
    pub bodies: u64,
    /// Messages buffered for readers of streams, all together; over it the furthest behind get a gap.
    #[serde(with = "text::size")]
    #[schemars(with = "SizeText")]
    pub streams: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            bodies: 64 << 20,
            streams: 128 << 20,
        }
    }
}

/// Below this a single message of ordinary size would not fit.
const BYTES_MIN: u64 = 1 << 20;

impl Memory {
    /// Whether a body so large never fits. Where `bodies` itself is wrong, that is said instead.
    pub(super) fn refuses(&self, bytes: u64) -> bool {
        self.bodies >= BYTES_MIN && bytes > self.bodies
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        findings.require(self.bodies >= BYTES_MIN, "bodies", "must be at least 1MiB");
        findings.require(
            self.streams >= BYTES_MIN,
            "streams",
            "must be at least 1MiB",
        );
    }
}
