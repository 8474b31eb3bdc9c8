//! Every metric: its name, its labels, and the handles through which it is moved.
//!
//! Labels are closed sets: the route's name, the method, the class of the status, the code of a
//! problem. Never a subject, a path, an address or anything else a client chooses. Handles are
//! resolved when a route is built, so the hot path touches atomics and no map.
//!
//! Here is the registry; what is counted of one thing, and under which names, stands in a file of its own.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

mod durations;
mod guard;
mod histogram;
mod jetstream;
mod labels;
mod level;
mod links;
mod listeners;
mod process;
mod route;
mod runtime;
mod spans;
mod streams;
mod text;

pub use guard::GaugeGuard;
pub use jetstream::JetStreamMetrics;
pub use labels::Labels;
pub use links::{LinkSample, NatsSample};
pub use listeners::Rejections;
pub use route::RouteMetrics;
pub use spans::TraceCounters;
pub use streams::{StreamEnds, StreamLag};

use crate::workers::Workers;

/// A value that goes up.
pub type Counter = prometheus_client::metrics::counter::Counter;

/// A value that goes up and down.
pub type Gauge = prometheus_client::metrics::gauge::Gauge;

/// A value that goes up and down by steps, moved by all workers at once.
pub type Level = prometheus_client::metrics::gauge::Gauge<i64, level::Level>;

const PREFIX: &str = "natsway";

/// The registry and all families.
pub struct Metrics {
    registry: Registry,
    jetstream: jetstream::Families,
    routes: route::Families,
    listeners: listeners::Families,
    bodies: Gauge,
    streams: streams::Families,
    spans: spans::Families,
    reloads: Family<Labels<1>, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything under its name.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            jetstream: jetstream::Families::default(),
            routes: route::Families::default(),
            listeners: listeners::Families::default(),
            bodies: Gauge::default(),
            streams: streams::Families::default(),
            spans: spans::Families::default(),
            reloads: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        // A counter that is not there from the start has no first increase.
        for result in ["ok", "rejected"] {
            let _at_zero = self
                .reloads
                .get_or_create_owned(&Labels([("result", result.into())]));
        }
        self.registry
            .register_collector(Box::new(process::Process::new()));
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        self.jetstream.register(registry);
        self.routes.register(registry);
        self.listeners.register(registry);
        registry.register_with_unit(
            "http_bodies_held",
            "Request bodies held under memory.bodies",
            Unit::Bytes,
            self.bodies.clone(),
        );
        self.streams.register(registry);
        self.spans.register(registry);
        registry.register(
            "config_reloads",
            "Reloads of the configuration, by result",
            self.reloads.clone(),
        );
        let version: (&str, &str) = ("version", env!("CARGO_PKG_VERSION"));
        registry.register("build", "The running version", Info::new([version]));
    }

    /// Takes a sample of the links at every scrape.
    pub fn watch_nats(&mut self, take: impl Fn() -> NatsSample + Send + Sync + 'static) {
        let collector = links::NatsCollector(Box::new(take));
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(Box::new(collector));
    }

    /// Asks the workers at every scrape.
    pub fn watch_workers(&mut self, workers: &Arc<Workers>) {
        let collector = runtime::Runtime(Arc::clone(workers));
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(Box::new(collector));
    }

    /// Bytes drawn from `memory.bodies`.
    #[must_use]
    pub fn bodies(&self) -> Gauge {
        self.bodies.clone()
    }

    /// What JetStream's verbs count.
    #[must_use]
    pub fn jetstream(&self) -> JetStreamMetrics {
        self.jetstream.handles()
    }

    /// Counts a reload.
    pub fn reloaded(&self, result: &str) {
        self.reloads
            .get_or_create_owned(&Labels([("result", result.into())]))
            .inc();
    }

    /// Everything in the OpenMetrics text format.
    #[must_use]
    pub fn openmetrics(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| self.routes.write(&mut text))
            .and_then(|()| self.streams.write(&mut text))
            .and_then(|()| encode_eof(&mut text));
        written.expect("writing to a String cannot fail");
        text
    }

    /// Everything in the older Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        text::from_openmetrics(&self.openmetrics())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry::trace::TraceId;

    use super::*;

    #[test]
    fn both_formats_name_a_counter_the_same() {
        let metrics = Metrics::new();
        let route = metrics.route("publish", "POST");
        let trace = TraceId::from_bytes([0xa7; 16]);
        route.answered(204, Duration::from_millis(2), Some(trace));
        route.problem(0, "overloaded", "bridge");
        let sample = "natsway_http_problems_total{route=\"publish\",code=\"overloaded\",source=\"bridge\"} 1";
        let openmetrics = metrics.openmetrics();
        assert!(openmetrics.contains(sample), "{openmetrics}");
        assert!(openmetrics.ends_with("# EOF\n"));
        let text = metrics.text();
        assert!(text.contains(sample), "{text}");
        assert!(
            text.contains("# TYPE natsway_http_problems_total counter"),
            "{text}"
        );
        assert!(
            text.contains("natsway_http_request_duration_seconds_bucket"),
            "{text}"
        );
        let line = |page: &str| {
            page.lines()
                .find(|line| line.contains("0.0025"))
                .map(str::to_owned)
        };
        assert!(
            line(&openmetrics).unwrap().contains("a7a7\"} 0.002"),
            "{openmetrics}"
        );
        assert!(!text.contains("trace_id"), "{text}");
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn a_problem_is_shown_only_after_it_happened() {
        let metrics = Metrics::new();
        let _route = metrics.route("publish", "POST");
        assert!(!metrics.text().contains("overloaded"));
    }

    #[test]
    fn the_first_bug_of_a_route_is_an_increase() {
        let metrics = Metrics::new();
        let route = metrics.route("publish", "POST");
        let sample =
            "natsway_http_problems_total{route=\"publish\",code=\"internal\",source=\"bridge\"}";
        assert!(metrics.text().contains(&format!("{sample} 0\n")));
        route.problem(1, "internal", "bridge");
        assert!(metrics.text().contains(&format!("{sample} 1\n")));
    }
}
