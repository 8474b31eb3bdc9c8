//! `GET /v1/subscribe/{subject}` and the multiplexed WebSocket `GET /v1/ws`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SECOND;
use crate::config::{
    endpoint::{Breaker, Buffer, Concurrency, OnSlow, Rate, SizeLimit, Subjects, WhenDisconnected},
    errors::Findings,
    schema,
    text::{self, DurationText, Switched},
};

/// `GET /v1/subscribe/{subject}` and the multiplexed WebSocket `GET /v1/ws`. What publishes and requests on `GET /v1/ws` may do is set by `api.publish` and `api.request`, which count them in their `body_limit`, `rate` and `concurrency`; only a `breaker` does not see them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Subscribe {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects it may touch.
    pub subjects: Subjects,
    /// How long opening may take, NATS being away included; after that the stream has no deadline.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline for opening a request may name.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many streams may be open; one more is answered 503. None waits, whatever `queue` says: nobody knows when a place will be free.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether opening fails at once or waits within the timeout while NATS is away. It waits, because a browser that is answered an error gives up.
    pub when_disconnected: WhenDisconnected,
    /// Streams that may be open in the whole process, declared routes included; one more is answered 429. Below `http.connections_max`, so that streams never take the last connection.
    pub streams_max: usize,
    /// What happens to a reader that is too slow.
    pub on_slow: OnSlow,
    /// How far a reader may fall behind. A thousand messages ride out a pause of a second or so; 1 MiB keeps ten thousand readers bounded together with `memory.streams`.
    #[schemars(transform = schema::defaults_are_merged)]
    pub buffer: Buffer,
}

impl Default for Subscribe {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            timeout: SECOND * 10,
            timeout_max: SECOND * 60,
            concurrency: Concurrency::new(10_000, 0),
            rate: None,
            breaker: None,
            when_disconnected: WhenDisconnected::Wait,
            streams_max: 10_000,
            on_slow: OnSlow::Drop,
            buffer: Buffer {
                messages: 1024,
                bytes: 1 << 20,
            },
        }
    }
}

impl Switched for Subscribe {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

endpoint!(
    Subscribe,
    |_| SizeLimit::Auto,
    |subscribe: &Subscribe, findings: &mut Findings| {
        findings.require(
            subscribe.streams_max > 0,
            "streams_max",
            "must be at least 1; switch the endpoint off to refuse streams",
        );
        findings.under("buffer", |findings| subscribe.buffer.check(findings));
    }
);
