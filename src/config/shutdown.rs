//! `shutdown`: how natsway ends.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{self, DurationText};

/// How natsway ends after SIGTERM or SIGINT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long new requests are still served after readiness turned, until load balancers have noticed. None by default, because in a sidecar nobody has to notice; a few seconds behind a Service.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub ready_delay: Duration,
    /// How long requests in flight may take after that. 25 s ends within the 30 s Kubernetes grants by default.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            ready_delay: Duration::ZERO,
            grace: Duration::from_secs(25),
        }
    }
}
