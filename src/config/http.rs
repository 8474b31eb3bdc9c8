//! `http`: how natsway treats HTTP connections.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    errors::Findings,
    text::{self, DurationText},
};

/// How natsway treats HTTP connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// How long a client may take to send a request's head, so that a slow one does not hold a connection.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub header_timeout: Duration,
    /// How long a client may take to send a body, after which it is answered 408. One that is held whole must also be there before the request's own deadline.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub body_timeout: Duration,
    /// How long a connection may stay without a request. Longer than the 60 s of usual proxies, so that these close first and never send into a closing connection.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub idle_timeout: Duration,
    /// Connections at once, over all data listeners; at the limit natsway stops accepting. More than `api.subscribe.streams_max`, so that streams never take the last one. At start the soft limit on open files is raised to the hard one, which must leave room for them.
    pub connections_max: usize,
    /// Whether answers are compressed for clients that ask. Off, because a sidecar's client is on the same machine.
    pub compression: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            connections_max: 16_384,
            compression: false,
        }
    }
}

impl Http {
    pub(super) fn check(&self, findings: &mut Findings) {
        for (key, value) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            findings.require(!value.is_zero(), key, "must be longer than 0");
        }
        findings.require(
            self.connections_max > 0,
            "connections_max",
            "must be at least 1",
        );
    }
}
