//! `api`: the built-in `/v1` endpoints.
//!
//! Each is a struct of its own, with the keys it has and no others, and hands the layers the same
//! [`Policy`](super::Policy).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{errors::Findings, text::Switch};

/// What each endpoint shares with the others.
macro_rules! endpoint {
    ($type:ty, $body_limit:expr, $check:expr) => {
        impl $type {
            /// What the layers need to know.
            #[must_use]
            pub fn policy(&self) -> $crate::config::Policy {
                $crate::config::Policy {
                    timeout: self.timeout,
                    timeout_max: self.timeout_max,
                    concurrency: self.concurrency,
                    rate: self.rate.clone(),
                    body_limit: $body_limit(self),
                    breaker: self.breaker,
                    when_disconnected: self.when_disconnected,
                }
            }

            pub(super) fn check(&self, findings: &mut $crate::config::errors::Findings) {
                $crate::config::endpoint::check_policy(&self.policy(), findings);
                $check(self, findings);
            }
        }
    };
}

mod batch;
mod jetstream;
mod publish;
mod request;
mod subscribe;

pub use batch::Batch;
pub use jetstream::JetStream;
pub use publish::Publish;
pub use request::Request;
pub use subscribe::Subscribe;

const SECOND: Duration = Duration::from_secs(1);

/// The built-in endpoints; each key `false` switches one off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Whether the data listener serves `GET /v1/openapi.json`; the admin listener always does.
    pub openapi: bool,
    /// `POST /v1/publish/{subject}`.
    #[serde(with = "Switch::<Publish>")]
    #[schemars(with = "Switch<Publish>")]
    pub publish: Publish,
    /// `POST /v1/publish` and `POST /v1/publish/{subject}?split=lines`, streamed. Subjects are those of `publish`.
    #[serde(with = "Switch::<Batch>")]
    #[schemars(with = "Switch<Batch>")]
    pub batch: Batch,
    /// `POST /v1/request/{subject}`.
    #[serde(with = "Switch::<Request>")]
    #[schemars(with = "Switch<Request>")]
    pub request: Request,
    /// `GET /v1/subscribe/{subject}` and the multiplexed WebSocket `GET /v1/ws`. What publishes and requests on `GET /v1/ws` may do is set by `api.publish` and `api.request`, which count them in their `body_limit`, `rate` and `concurrency`; only a `breaker` does not see them.
    #[serde(with = "Switch::<Subscribe>")]
    #[schemars(with = "Switch<Subscribe>")]
    pub subscribe: Subscribe,
    /// `/v1/streams/…` and `/v1/acks/…`. A replay is a stream like any other: timeouts, concurrency and what happens while NATS is away are those of `subscribe`.
    #[serde(with = "Switch::<JetStream>")]
    #[schemars(with = "Switch<JetStream>")]
    pub jetstream: JetStream,
    /// Whether streams and consumers can be created, deleted and purged over HTTP. Off, because that deletes data.
    pub manage: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            openapi: true,
            publish: Publish::default(),
            batch: Batch::default(),
            request: Request::default(),
            subscribe: Subscribe::default(),
            jetstream: JetStream::default(),
            manage: false,
        }
    }
}

impl Api {
    pub(super) fn check(&self, findings: &mut Findings) {
        findings.under("publish", |findings| self.publish.check(findings));
        findings.under("batch", |findings| self.batch.check(findings));
        findings.under("request", |findings| self.request.check(findings));
        findings.under("subscribe", |findings| self.subscribe.check(findings));
        findings.under("jetstream", |findings| self.jetstream.check(findings));
    }
}
