//! What a running natsway is made of, and what of it outlives a reload.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::keys::AckKeys;
use super::{StartError, nats_sample, routes, traces};
use crate::api::jetstream::replay::Replays;
use crate::config::{Config, Sources};
use crate::layers::admission::StreamSlots;
use crate::layers::body::MaxPayload;
use crate::layers::cors::Origins;
use crate::layers::guard::Hosts;
use crate::layers::memory::Budget;
use crate::lifecycle::Lifecycle;
use crate::nats::{self, Nats};
use crate::router::{Built, Kept, Routes, Shared};
use crate::server::{self, Limits, Slots, Timers};
use crate::telemetry::logs;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{Tracer, Traces};
use crate::workers::Workers;

/// The parts.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) workers: Arc<Workers>,
    pub(super) nats: Arc<Nats>,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: Arc<Metrics>,
    traces: Option<Traces>,
    ack_keys: AckKeys,
    replays: Arc<Replays>,
    kept: Kept,
    streams: Arc<StreamSlots>,
    bodies: Arc<Budget>,
    slots: Arc<Slots>,
    timers: Arc<ArcSwap<Timers>>,
}

impl Parts {
    /// Starts to connect to NATS.
    ///
    /// # Errors
    /// When there are no keys for ack tokens.
    pub(super) fn new(config: Config, workers: Arc<Workers>) -> Result<Self, StartError> {
        let ack_keys = AckKeys::new()?;
        let lifecycle = Lifecycle::new();
        let catchups_max = config.api.jetstream.catchups_max;
        let mut metrics = Metrics::new();
        metrics.watch_workers(&workers);
        let bodies = Budget::new(config.memory.bodies, metrics.bodies());
        let streams = nats::Budget::new(held(&config));
        let replies: Arc<dyn nats::Room> = bodies.clone();
        let nats = Nats::start((&*config.nats).into(), &workers, streams, &replies);
        let shown = metrics.jetstream().replayed;
        let replays = Replays::new(&nats, catchups_max, lifecycle.drain(), shown);
        let watched = (Arc::clone(&nats), Arc::clone(&replays));
        metrics.watch_nats(move || nats_sample::take(&watched.0, &watched.1));
        let metrics = Arc::new(metrics);
        Ok(Self {
            traces: traces::start(&config.telemetry.traces, metrics.traces()),
            ack_keys,
            replays,
            workers,
            nats,
            lifecycle,
            kept: Kept::default(),
            streams: StreamSlots::new(config.api.subscribe.streams_max),
            bodies,
            slots: Slots::new(config.http.connections_max),
            timers: Arc::new(ArcSwap::from_pointee(timers(&config))),
            metrics,
            config,
        })
    }

    /// The routes of the configuration, in their stacks.
    pub(super) fn build_routes(&self) -> Result<Built, StartError> {
        self.build_routes_of(&self.config)
    }

    fn build_routes_of(&self, config: &Config) -> Result<Built, StartError> {
        let nats = Arc::clone(&self.nats);
        let shared = Shared {
            metrics: Arc::clone(&self.metrics),
            drain: self.lifecycle.drain(),
            hosts: Hosts::new(&config.listen.hosts),
            origins: Origins::new(&config.cors),
            access_log: config.telemetry.log.access,
            tracer: match &self.traces {
                Some(traces) => Some(traces.tracer(&config.telemetry.traces)),
                None => Tracer::without_collector(&config.telemetry.traces),
            },
            kept: self.kept.clone(),
            streams: Arc::clone(&self.streams),
            bodies: Arc::clone(&self.bodies),
            body_timeout: config.http.body_timeout,
            max_payload: MaxPayload::new(move || nats.max_payload() as u64),
            compression: config.http.compression,
        };
        let context = routes::Context {
            config,
            nats: &self.nats,
            drain: self.lifecycle.drain(),
            metrics: &self.metrics,
            replays: &self.replays,
            tracer: shared.tracer.clone(),
            tokens: self.ack_keys.tokens(&config.ack_tokens)?,
        };
        Ok(routes::build(&context, &shared)?)
    }

    /// Sends the spans that wait.
    pub(super) async fn end_traces(&mut self) {
        if let Some(traces) = &mut self.traces {
            traces.end().await;
        }
    }

    /// The limits of the data listeners.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            slots: Arc::clone(&self.slots),
            timers: Arc::clone(&self.timers),
            connections: self.metrics.connections("data"),
            rejections: self.metrics.rejections("data"),
        }
    }

    /// Whether NATS is connected, for whoever asks later.
    pub(super) fn is_connected(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let nats = Arc::clone(&self.nats);
        Arc::new(move || nats.is_connected())
    }

    /// Reads the sources again. Validated and built first: what is wrong changes nothing. Requests in
    /// flight keep the routes and limits they came in by.
    pub(super) fn reload(&mut self, routes: &Routes, sources: &Sources, why: &'static str) {
        let (result, counted) = match self.try_reload(routes, sources) {
            Ok(()) => (None, "ok"),
            Err(error) => (Some(error), "rejected"),
        };
        self.metrics.reloaded(counted);
        match result {
            None => tracing::info!(
                why,
                routes = self.config.routes.len(),
                "configuration reloaded"
            ),
            Some(error) => {
                tracing::error!(
                    why,
                    error,
                    "the new configuration is wrong and changes nothing"
                );
            }
        }
    }

    fn try_reload(&mut self, routes: &Routes, sources: &Sources) -> Result<(), String> {
        let new = sources.load().map_err(|errors| errors.to_string())?;
        let sections = self.config.needs_restart(&new);
        if !sections.is_empty() {
            tracing::warn!(
                ?sections,
                "these sections changed and count only after a restart"
            );
        }
        let new = new.keeping_restart_sections_of(&self.config);
        let built = self
            .build_routes_of(&new)
            .map_err(|error| error.to_string())?;
        self.streams.set_max(new.api.subscribe.streams_max);
        self.replays
            .set_catchups_max(new.api.jetstream.catchups_max);
        self.bodies.set_limit(new.memory.bodies);
        self.nats.hub().budget().set_limit(held(&new));
        if new.http.connections_max > self.config.http.connections_max {
            server::raise_open_files(new.http.connections_max, self.workers.all().len());
        }
        self.slots.set_max(new.http.connections_max);
        self.timers.store(Arc::new(timers(&new)));
        routes.replace(built);
        logs::set_level(&new.telemetry.log);
        self.config = new;
        Ok(())
    }
}

fn held(config: &Config) -> usize {
    usize::try_from(config.memory.streams).unwrap_or(usize::MAX)
}

fn timers(config: &Config) -> Timers {
    Timers {
        header_timeout: config.http.header_timeout,
        idle_timeout: config.http.idle_timeout,
        keep_alive: config.streams.keep_alive,
    }
}
