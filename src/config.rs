//! The configuration: parsed once, checked whole, then passed down a section at a time.
//!
//! Sources, later ones win: the defaults, a file (YAML, TOML or JSON), the environment, flags. Nothing
//! is half accepted: [`Sources::load`] either returns a configuration in which every value is legal and
//! fits the others, or everything that is wrong with it, each error with its key's path.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod ack_tokens;
mod api;
mod cors;
mod docs;
mod endpoint;
mod environment;
mod errors;
mod http;
mod listen;
mod load;
mod memory;
mod nats;
mod routes;
mod runtime;
mod schema;
mod secret;
mod shutdown;
mod streams;
mod telemetry;
mod text;

pub use ack_tokens::AckTokens;
pub use api::{Api, Batch, JetStream, Publish, Request, Subscribe};
pub use cors::{Cors, Origin};
pub use docs::reference;
pub use endpoint::{
    Breaker, Buffer, Concurrency, Confirm, OnSlow, Policy, Quota, Rate, RateKey, SizeLimit,
    Subjects, WhenDisconnected,
};
pub use errors::{ConfigError, ConfigErrors, KeyPath};
pub use http::Http;
pub use listen::{ADMIN_PORT, DATA_PORT, Listen, ListenAddr};
pub use load::Sources;
pub use memory::Memory;
pub use nats::{Auth, AuthMethod, Nats, Reconnect, ServerUrl, Tls};
pub use routes::{
    Action, Match, Method, Param, PublishAction, RESERVED_NAMES, ReplayAction, ReplayFrom,
    ReplayUntil, RequestAction, Route, RouteHeaders, RoutePath, SubscribeAction,
};
pub use runtime::{Runtime, Workers};
pub use schema::json_schema;
pub use secret::{REDACTED, Secret, SecretSource};
pub use shutdown::Shutdown;
pub use streams::Streams;
pub use telemetry::{AccessLog, Log, LogFormat, Telemetry, Traces, Trust};
pub use text::ValueTemplate;

use errors::Findings;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where natsway can be reached. A change needs a restart.
    pub listen: Arc<Listen>,
    /// How natsway reaches NATS. A change needs a restart.
    pub nats: Arc<Nats>,
    /// The built-in `/v1` endpoints; each key `false` switches one off.
    pub api: Arc<Api>,
    /// HTTP paths of one's own, each mapped to one thing NATS does.
    pub routes: Vec<Arc<Route>>,
    /// Which web pages may call natsway from a browser. The `Origin` of a WebSocket is checked against the same list.
    pub cors: Arc<Cors>,
    /// What all open streams have in common: SSE, NDJSON and WebSocket.
    pub streams: Arc<Streams>,
    /// How natsway treats HTTP connections.
    pub http: Arc<Http>,
    /// Bounds for the process as a whole, whatever the single limits add up to.
    pub memory: Arc<Memory>,
    /// How natsway ends after SIGTERM or SIGINT.
    pub shutdown: Arc<Shutdown>,
    /// What natsway says about itself.
    pub telemetry: Arc<Telemetry>,
    /// What signs the tokens messages are acknowledged with.
    pub ack_tokens: Arc<AckTokens>,
    /// Threads. A change needs a restart.
    pub runtime: Arc<Runtime>,
}

impl Config {
    /// The sections and keys of `new` that differ and count only after a restart.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (log, traces) = (&self.telemetry.log, &self.telemetry.traces);
        let (new_log, new_traces) = (&new.telemetry.log, &new.telemetry.traces);
        let changed = [
            ("listen", self.listen != new.listen),
            ("nats", self.nats != new.nats),
            ("runtime", self.runtime != new.runtime),
            ("telemetry.log.format", log.format != new_log.format),
            (
                "telemetry.traces.otlp_endpoint",
                traces.otlp_endpoint != new_traces.otlp_endpoint,
            ),
        ];
        changed
            .into_iter()
            .filter_map(|(section, changed)| changed.then_some(section))
            .collect()
    }

    /// This configuration as it can take effect without a restart: what [`Self::needs_restart`] names is the
    /// other's, so that it is named at each reload until there was one.
    #[must_use]
    pub fn keeping_restart_sections_of(self, running: &Self) -> Self {
        let mut telemetry = (*self.telemetry).clone();
        telemetry.log.format = running.telemetry.log.format;
        telemetry
            .traces
            .otlp_endpoint
            .clone_from(&running.telemetry.traces.otlp_endpoint);
        Self {
            listen: Arc::clone(&running.listen),
            nats: Arc::clone(&running.nats),
            runtime: Arc::clone(&running.runtime),
            telemetry: Arc::new(telemetry),
            ..self
        }
    }

    /// What is wrong although every single value could be read.
    fn check(&self, findings: &mut Findings) {
        findings.under("listen", |findings| self.listen.check(findings));
        findings.under("nats", |findings| self.nats.check(findings));
        findings.under("api", |findings| self.api.check(findings));
        findings.under("routes", |findings| {
            routes::check_routes(&self.routes, findings)
        });
        findings.under("streams", |findings| self.streams.check(findings));
        findings.under("http", |findings| self.http.check(findings));
        findings.under("memory", |findings| self.memory.check(findings));
        findings.under("telemetry", |findings| self.telemetry.check(findings));
        findings.under("ack_tokens", |findings| self.ack_tokens.check(findings));
        self.check_together(findings);
    }

    fn check_together(&self, findings: &mut Findings) {
        let (streams, connections) = (self.api.subscribe.streams_max, self.http.connections_max);
        if streams >= connections {
            let what =
                format!("{connections} must be more than `api.subscribe.streams_max`, {streams}");
            findings.under("http", |findings| {
                findings.wrong_at("connections_max", what)
            });
        }
        let api = &self.api;
        findings.under("api", |findings| {
            for (endpoint, key, limit) in [
                ("publish", "body_limit", api.publish.body_limit),
                ("batch", "line_limit", api.batch.line_limit),
                ("request", "body_limit", api.request.body_limit),
                ("jetstream", "body_limit", api.jetstream.body_limit),
            ] {
                findings.under(endpoint, |findings| self.check_fits(key, limit, findings));
            }
        });
        findings.under("routes", |findings| {
            for (index, route) in self.routes.iter().enumerate() {
                findings.entry(index, |findings| {
                    self.check_fits("body_limit", route.body_limit, findings)
                });
            }
        });
    }

    /// What is held whole must fit into the memory for bodies, or it would be refused for ever.
    fn check_fits(&self, key: &str, limit: SizeLimit, findings: &mut Findings) {
        if matches!(limit, SizeLimit::Bytes(bytes) if self.memory.refuses(bytes)) {
            findings.wrong_at(
                key,
                "must not be more than `memory.bodies`: such a body would never be taken",
            );
        }
    }
}
