//! The composition root: from a configuration to a running natsway, and to its end.
//!
//! [`App::build`] binds and wires, [`App::run`] serves until it is told to end. Nothing else in the crate
//! binds, spawns a task without an owner, or reads the environment.

mod keys;
mod nats_sample;
mod parts;
mod reload;
mod routes;
mod traces;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::{self, Admin};
use crate::config::{Config, Sources};
use crate::lifecycle::{Ending, Lifecycle, Signal, Signals, Timing};
use crate::router::{Answering, Built, RouteConflict, Routes};
use crate::server::{self, BindError, Limits, Listener, Slots};
use crate::workers::Workers;
use parts::Parts;
use reload::FileWatch;

/// Why natsway did not start, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Two routes cannot both be there.
    #[error(transparent)]
    Routes(#[from] RouteConflict),
    /// There are no threads.
    #[error("cannot start threads: {0}")]
    Workers(#[source] std::io::Error),
    /// Ack tokens cannot be signed.
    #[error("ack_tokens: {0}")]
    AckTokens(String),
}

/// natsway, bound and wired.
#[derive(Debug)]
pub struct App {
    data: Vec<Listener>,
    admin: Vec<Listener>,
    parts: Parts,
    routes: Routes,
}

/// Probes and scrapers are few; a flood of them is not natsway's business.
const ADMIN_CONNECTIONS_MAX: usize = 256;

impl App {
    /// Binds every address, starts to connect to NATS, and builds the routes.
    ///
    /// # Errors
    /// When an address cannot be bound, or routes collide.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let workers = config.runtime.workers.count().get();
        server::raise_open_files(config.http.connections_max, workers);
        let listen = Arc::clone(&config.listen);
        let data = server::bind(&listen.data, listen.is_default_data()).await?;
        let admin = std::slice::from_ref(&listen.admin);
        let admin = server::bind(admin, false).await?;
        let workers = Workers::with_others(workers - 1).map_err(StartError::Workers)?;
        let parts = Parts::new(config, workers)?;
        let routes = Routes::new(parts.build_routes()?);
        Ok(Self {
            data,
            admin,
            parts,
            routes,
        })
    }

    /// The routes in force, for whoever asks them without a listener.
    #[must_use]
    pub fn routes(&self) -> Arc<Built> {
        self.routes.current()
    }

    /// Waits until NATS has been connected once, as readiness does.
    pub async fn connected_once(&self) {
        self.parts.nats.connected_once().await;
    }

    /// Serves until a signal says otherwise, then ends in order: readiness, requests and streams, NATS.
    /// Where there are sources, they are read again on SIGHUP and when the file changes.
    pub async fn run(self, mut signals: Signals, sources: Option<Sources>) -> Ending {
        let mut running = Running::start(self);
        running.until_terminated(&mut signals, sources).await;
        running.end(&mut signals).await
    }
}

/// The OpenAPI document of a configuration, without serving it. Needs a runtime, as connecting would, but
/// nothing is connected.
///
/// # Errors
/// When routes collide.
pub fn openapi(config: Config) -> Result<serde_json::Value, StartError> {
    let built: Built = Parts::new(config, Workers::here())?.build_routes()?;
    Ok(built.openapi().value())
}

impl server::Serve for Routes {
    type Answer = Answering;

    fn answer(
        &self,
        request: http::Request<hyper::body::Incoming>,
        context: crate::layers::context::Context,
    ) -> Self::Answer {
        self.answer(request, context)
    }
}

struct Running {
    parts: Parts,
    routes: Routes,
    lifecycle: Lifecycle,
    /// Ends last, so that probes are answered to the end.
    admin_lifecycle: Lifecycle,
    servers: JoinSet<()>,
    upkeep: JoinSet<()>,
}

impl Running {
    fn start(app: App) -> Self {
        let App {
            data,
            admin,
            parts,
            routes,
        } = app;
        let lifecycle = parts.lifecycle.clone();
        let admin_lifecycle = Lifecycle::new();
        announce(&data, &admin);
        let pages = admin::router(Admin {
            lifecycle: lifecycle.clone(),
            is_connected: parts.is_connected(),
            metrics: Arc::clone(&parts.metrics),
            routes: routes.clone(),
        });
        let mut servers = JoinSet::new();
        let limits = parts.limits();
        let admin_limits = Limits {
            slots: Slots::new(ADMIN_CONNECTIONS_MAX),
            connections: parts.metrics.connections("admin"),
            rejections: parts.metrics.rejections("admin"),
            ..limits.clone()
        };
        servers.spawn(server::serve(
            data,
            Arc::clone(&parts.workers),
            routes.clone(),
            limits,
            lifecycle.drain(),
        ));
        let drain = admin_lifecycle.drain();
        let here = Workers::here();
        servers.spawn(server::serve(admin, here, pages, admin_limits, drain));
        let mut running = Self {
            parts,
            routes,
            lifecycle,
            admin_lifecycle,
            servers,
            upkeep: JoinSet::new(),
        };
        running.start_upkeep();
        running
    }

    fn start_upkeep(&mut self) {
        let (nats, lifecycle) = (Arc::clone(&self.parts.nats), self.lifecycle.clone());
        self.upkeep.spawn(async move {
            nats.connected_once().await;
            lifecycle.connected_once();
            tracing::info!("ready");
        });
    }

    async fn until_terminated(&mut self, signals: &mut Signals, sources: Option<Sources>) {
        let mut file = FileWatch::new(sources.as_ref().and_then(Sources::file));
        loop {
            let reload = tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Terminate => return,
                    Signal::Reload => "SIGHUP",
                },
                () = file.changed() => "the file changed",
            };
            if let Some(sources) = &sources {
                self.parts.reload(&self.routes, sources, reload);
            }
        }
    }

    async fn end(mut self, signals: &mut Signals) -> Ending {
        let shutdown = &self.parts.config.shutdown;
        let timing = Timing {
            ready_delay: shutdown.ready_delay,
            grace: shutdown.grace,
        };
        tracing::info!(
            ready_delay_ms = timing.ready_delay.as_secs_f64() * 1000.0,
            grace_ms = timing.grace.as_secs_f64() * 1000.0,
            "shutting down"
        );
        let ending = self.lifecycle.shut_down(timing, signals).await;
        if ending != Ending::Forced {
            let last = Instant::now() + timing.reserve() / 2;
            let nats = Arc::clone(&self.parts.nats);
            tokio::join!(nats.close(last), self.parts.end_traces());
        }
        self.admin_lifecycle.expire();
        self.servers.shutdown().await;
        self.upkeep.shutdown().await;
        // What was cut on them says so in the access log.
        self.parts.workers.end().await;
        tracing::info!(ending = ending.as_str(), "ended");
        ending
    }
}

/// The bound addresses, in lines that a script can wait for.
fn announce(data: &[Listener], admin: &[Listener]) {
    for listener in data {
        tracing::info!(address = %listener.local(), "listening for requests");
    }
    for listener in admin {
        tracing::info!(address = %listener.local(), "listening for probes and scrapers");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let methods = |(path, methods)| {
            let methods: &Value = methods;
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path, method, operation))
        };
        paths.iter().flat_map(methods).collect()
    }

    #[tokio::test]
    async fn the_published_openapi_document_is_the_one_of_the_routes() {
        let document = openapi(Config::default()).unwrap();
        let text = format!("{document:#}\n");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == text,
            "openapi.json is not what the routes say; run `BLESS=1 cargo test --lib app`"
        );
    }

    #[tokio::test]
    async fn no_declared_route_takes_the_name_of_a_built_in_one() {
        let document = openapi(Config::default()).unwrap();
        let names: HashSet<_> = operations(&document)
            .into_iter()
            .filter(|(_, method, _)| *method != "head")
            .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
            // Whose requests are counted, but which are no routes.
            .chain(["method-not-allowed", "not-found"])
            .collect();
        assert_eq!(names, HashSet::from(crate::config::RESERVED_NAMES));
    }

    #[tokio::test]
    async fn every_operation_is_described_and_named_once() {
        let document = openapi(Config::default()).unwrap();
        let mut names = HashSet::new();
        for (path, method, operation) in operations(&document) {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{what}: {name} is taken");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.len() > 1, "{what} does not say what a success is");
        }
    }
}
