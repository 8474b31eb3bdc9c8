//! JetStream over plain HTTP.
//!
//! JetStream's API is JSON over requests to `$JS.API.…`, and that is what natsway speaks: [`Api`]
//! sends one and says what became of it. Nothing here holds state that a restart would lose: what an
//! ack needs travels in its token.

mod access;
pub mod acks;
mod answer;
mod api;
mod asked;
mod backoff;
mod config_json;
pub mod consumers;
pub mod fetch;
mod fetching;
mod janitor;
mod losses;
pub mod messages;
mod no_responders;
mod pub_ack;
mod pull;
pub mod replay;
mod store;
pub mod streams;
mod tokens;
mod traced;
mod unreadable;
pub mod versions;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use api::Api;
pub use asked::Asked;
pub use pub_ack::PubAck;
pub use tokens::Tokens;

use crate::config;
use crate::layers::memory::Budget;
use crate::lifecycle::Drain;
use crate::nats::{Call, Nats};
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::JetStreamMetrics;
use access::Access;
use janitor::Janitor;
use losses::Losses;

/// What the endpoints below `/v1/streams` and `/v1/acks` share.
#[derive(Debug)]
pub struct JetStream {
    api: Api,
    access: Access,
    tokens: Tokens,
    janitor: Arc<Janitor>,
    losses: Losses,
    bodies: Arc<Budget>,
    timeout: Duration,
    timeout_max: Duration,
    waits: bool,
    manage: bool,
    drain: Drain,
    metrics: JetStreamMetrics,
}

impl JetStream {
    /// From the section `api.jetstream`, and `api.manage`. What is fetched is drawn from `bodies`;
    /// fetches end early when the process is to end.
    #[must_use]
    pub fn new(
        nats: &Arc<Nats>,
        settings: &config::JetStream,
        manage: bool,
        tokens: Tokens,
        bodies: &Arc<Budget>,
        drain: &Drain,
        metrics: JetStreamMetrics,
    ) -> Arc<Self> {
        let api = Api::new(nats);
        Arc::new(Self {
            janitor: Janitor::new(api.clone(), drain.clone(), metrics.clone()),
            losses: Losses::default(),
            api,
            access: Access::new(settings.subjects.policy()),
            tokens,
            bodies: Arc::clone(bodies),
            timeout: settings.timeout,
            timeout_max: settings.timeout_max,
            waits: settings.when_disconnected.waits(),
            manage,
            drain: drain.clone(),
            metrics,
        })
    }

    const fn call(&self, deadline: Instant) -> Call {
        Call {
            deadline,
            wait: self.waits,
        }
    }

    fn no_room() -> Problem {
        Problem::new(Code::Overloaded)
            .detail("the bodies held at once have reached `memory.bodies`")
    }

    fn may_manage(&self) -> Result<(), Problem> {
        if self.manage {
            return Ok(());
        }
        Err(Problem::new(Code::ManagementDisabled))
    }
}
