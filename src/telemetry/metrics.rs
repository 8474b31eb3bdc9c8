//! Every metric: its name, its labels, and the handles through which it is moved.
//!
//! Labels are closed sets: the route's name, the method, the class of the status, the code of a
//! problem. Never a subject, a path, an address or anything else a client chooses. Handles are
//! resolved when a route is built, so the hot path touches atomics and no map.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

mod durations;
mod histogram;
mod jetstream;
mod links;
mod process;
mod route;
mod stripes;
mod text;

use durations::Durations;
use histogram::Histogram;

pub use jetstream::JetStreamMetrics;
pub use links::{LinkSample, NatsSample};
pub use route::RouteMetrics;

/// A value that goes up.
pub type Counter = prometheus_client::metrics::counter::Counter;

/// A value that goes up and down.
pub type Gauge = prometheus_client::metrics::gauge::Gauge;

/// A value that goes up and down by steps, moved by all workers at once.
pub type Level = prometheus_client::metrics::gauge::Gauge<i64, stripes::Level>;

const PREFIX: &str = "natsway";

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Fixed label names with values that are known when a handle is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels<const N: usize>(pub [(&'static str, Arc<str>); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, value) in &self.0 {
            EncodeLabelSet::encode(&[(*name, value.as_ref())], encoder)?;
        }
        Ok(())
    }
}

/// The registry and all families.
pub struct Metrics {
    registry: Registry,
    durations: Durations<3>,
    in_flight: Family<Labels<1>, Level>,
    waiting: Family<Labels<1>, Gauge>,
    streams: Family<Labels<1>, Gauge>,
    breaker: Family<Labels<1>, Gauge>,
    problems: Family<Labels<3>, Counter>,
    connections: Family<Labels<1>, Gauge>,
    rejections: Family<Labels<2>, Counter>,
    reloads: Family<Labels<1>, Counter>,
    stream_ends: StreamEnds,
    stream_lags: Durations<1>,
    spans: Family<Labels<1>, Counter>,
    spans_waiting: Gauge,
    bodies: Gauge,
    jetstream: jetstream::Families,
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
            durations: Durations::new(
                "natsway_http_request_duration_seconds",
                "Time from a request's head to the head of its answer",
                ["route", "method", "status"],
                durations::REQUEST,
            ),
            in_flight: Family::default(),
            waiting: Family::default(),
            streams: Family::default(),
            breaker: Family::default(),
            problems: Family::default(),
            connections: Family::default(),
            rejections: Family::default(),
            reloads: Family::default(),
            stream_ends: StreamEnds::default(),
            stream_lags: Durations::new(
                "natsway_stream_lag_seconds",
                "Age of the oldest message in each write to a stream's client",
                ["route"],
                durations::LAG,
            ),
            spans: Family::default(),
            spans_waiting: Gauge::default(),
            bodies: Gauge::default(),
            jetstream: jetstream::Families::default(),
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
        let _at_zero = self.traces();
        self.registry
            .register_collector(Box::new(process::Process::new()));
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(Box::new(process::Runtime));
        self.jetstream.register(registry);
        registry.register(
            "http_requests_in_flight",
            "Requests whose answer has not begun",
            self.in_flight.clone(),
        );
        registry.register(
            "http_requests_waiting",
            "Requests that wait for a place under the route's concurrency limit",
            self.waiting.clone(),
        );
        registry.register("http_streams", "Open streams", self.streams.clone());
        registry.register(
            "http_breaker_open",
            "1 while the route's circuit breaker is open",
            self.breaker.clone(),
        );
        registry.register(
            "http_problems",
            "Problems answered, by code and by who failed",
            self.problems.clone(),
        );
        registry.register(
            "http_connections",
            "Open connections",
            self.connections.clone(),
        );
        registry.register(
            "http_rejections",
            "Turned away before there was a request, by reason",
            self.rejections.clone(),
        );
        registry.register_with_unit(
            "http_bodies_held",
            "Request bodies held under memory.bodies",
            Unit::Bytes,
            self.bodies.clone(),
        );
        registry.register(
            "stream_ends",
            "Streams that have ended, by reason",
            self.stream_ends.0.clone(),
        );
        registry.register(
            "traces_spans",
            "Spans of traced requests, by what became of them",
            self.spans.clone(),
        );
        registry.register(
            "traces_spans_waiting",
            "Spans that wait for the collector, 2048 at most",
            self.spans_waiting.clone(),
        );
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

    /// Open connections of a listener: `data` or `admin`.
    #[must_use]
    pub fn connections(&self, listener: &str) -> Gauge {
        self.connections
            .get_or_create_owned(&Labels([("listener", listener.into())]))
    }

    /// Those whom a listener turns away before there is a request.
    #[must_use]
    pub fn rejections(&self, listener: &str) -> Rejections {
        let of = |reason: &str| {
            let labels = [("listener", listener.into()), ("reason", reason.into())];
            self.rejections.get_or_create_owned(&Labels(labels))
        };
        Rejections {
            malformed: of("malformed"),
            too_large: of("too-large"),
            header_timeout: of("header-timeout"),
            connections_max: of("connections-max"),
        }
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

    /// Why streams end.
    #[must_use]
    pub fn stream_ends(&self) -> StreamEnds {
        self.stream_ends.clone()
    }

    /// How late the messages of a route's streams are.
    #[must_use]
    pub fn stream_lag(&self, route: &str) -> StreamLag {
        StreamLag(self.stream_lags.of([route.into()]))
    }

    /// What becomes of spans.
    #[must_use]
    pub fn traces(&self) -> TraceCounters {
        let of = |result: &str| {
            self.spans
                .get_or_create_owned(&Labels([("result", result.into())]))
        };
        TraceCounters {
            exported: of("exported"),
            failed: of("failed"),
            dropped: of("dropped"),
            skipped: of("skipped"),
            waiting: self.spans_waiting.clone(),
        }
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
            .and_then(|()| self.durations.write(&mut text))
            .and_then(|()| self.stream_lags.write(&mut text))
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

/// What becomes of spans.
#[derive(Clone, Debug)]
pub struct TraceCounters {
    /// The collector took them.
    pub exported: Counter,
    /// The collector did not.
    pub failed: Counter,
    /// There was no room for them.
    pub dropped: Counter,
    /// A message had as many already.
    pub skipped: Counter,
    /// They wait to be sent.
    pub waiting: Gauge,
}

/// Streams that have ended, by reason.
#[derive(Clone, Debug, Default)]
pub struct StreamEnds(Family<Labels<1>, Counter>);

impl StreamEnds {
    /// Counts one. `reason` is a word of ours, never a client's.
    pub fn count(&self, reason: &'static str) {
        self.0
            .get_or_create_owned(&Labels([("reason", reason.into())]))
            .inc();
    }
}

/// Clients that never got as far as a route, and so are in no other count.
#[derive(Clone, Debug)]
pub struct Rejections {
    /// What came is no HTTP; answered 400.
    pub malformed: Counter,
    /// A head or its target is too large; answered 431 or 414.
    pub too_large: Counter,
    /// A head was not there in time; the connection was closed.
    pub header_timeout: Counter,
    /// No connection was free, and one or more had to wait in the kernel's backlog.
    pub connections_max: Counter,
}

/// How old the oldest message of a write is.
#[derive(Clone, Debug)]
pub struct StreamLag(Histogram);

impl StreamLag {
    /// One write.
    pub fn observe(&self, age: Duration) {
        self.0.observe(age, None);
    }
}

/// One more while it lives.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Counts one.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
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
    fn a_guard_counts_while_it_lives() {
        let gauge = Gauge::default();
        let guard = GaugeGuard::new(&gauge);
        assert_eq!(gauge.get(), 1);
        drop(guard);
        assert_eq!(gauge.get(), 0);
    }
}
