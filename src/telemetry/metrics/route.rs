//! What is counted of one route. Its handles are made with the route, or when they are first needed, so
//! that a request looks nothing up.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::durations::{self, Durations};
use super::histogram::Histogram;
use super::{Counter, Gauge, Labels, Level, Metrics};

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The families. The registry knows no histograms of ours, so the durations are written behind it.
pub(super) struct Families {
    durations: Durations<3>,
    in_flight: Family<Labels<1>, Level>,
    waiting: Family<Labels<1>, Gauge>,
    streams: Family<Labels<1>, Gauge>,
    breaker: Family<Labels<1>, Gauge>,
    problems: Family<Labels<3>, Counter>,
}

impl Default for Families {
    fn default() -> Self {
        Self {
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
        }
    }
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
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
    }

    pub(super) fn write(&self, to: &mut String) -> fmt::Result {
        self.durations.write(to)
    }

    /// Shows `internal` from the start: `increase()` does not see a series begin at 1, and the first bug
    /// should be known of.
    fn show_no_bug(&self, route: &Arc<str>) {
        let internal = problem(route, "internal", "bridge");
        drop(self.problems.get_or_create(&internal));
    }
}

fn problem(route: &Arc<str>, code: &'static str, source: &'static str) -> Labels<3> {
    Labels([
        ("route", Arc::clone(route)),
        ("code", code.into()),
        ("source", source.into()),
    ])
}

impl Metrics {
    /// The handles of one route.
    #[must_use]
    pub fn route(&self, name: &str, method: &str) -> RouteMetrics {
        let route: Arc<str> = name.into();
        let own = Labels([("route", Arc::clone(&route))]);
        let families = &self.routes;
        families.show_no_bug(&route);
        RouteMetrics {
            durations: DurationHandles {
                family: families.durations.clone(),
                route: Arc::clone(&route),
                method: method.into(),
                classes: [const { OnceLock::new() }; 5],
            },
            in_flight: families.in_flight.get_or_create_owned(&own),
            waiting: families.waiting.get_or_create_owned(&own),
            streams: families.streams.get_or_create_owned(&own),
            breaker: families.breaker.get_or_create_owned(&own),
            problems: ProblemCounters {
                family: families.problems.clone(),
                route,
                counters: OnceLock::new(),
            },
        }
    }
}

/// More than there are pairs of a code and a source.
const SLOTS: usize = 256;

/// The handles of one route.
pub struct RouteMetrics {
    durations: DurationHandles,
    /// Requests whose answer has not begun.
    pub in_flight: Level,
    /// Requests that wait for a place.
    pub waiting: Gauge,
    /// Open streams.
    pub streams: Gauge,
    /// 1 while the breaker is open.
    pub breaker: Gauge,
    problems: ProblemCounters,
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics").finish_non_exhaustive()
    }
}

impl RouteMetrics {
    /// Counts an answer, and of a traced request remembers the trace.
    pub fn answered(&self, status: u16, took: Duration, trace: Option<TraceId>) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.durations.of(class).observe(took, trace);
    }

    /// Counts a problem. `code` and `source` are the words in its body, `slot` a number that stands
    /// for the pair, below 256.
    pub fn problem(&self, slot: usize, code: &'static str, source: &'static str) {
        self.problems.inc(slot, code, source);
    }
}

/// A histogram a class of status, made when the first such answer is given: most routes have two.
struct DurationHandles {
    family: Durations<3>,
    route: Arc<str>,
    method: Arc<str>,
    classes: [OnceLock<Histogram>; 5],
}

impl DurationHandles {
    fn of(&self, class: usize) -> &Histogram {
        self.classes[class].get_or_init(|| {
            let route = Arc::clone(&self.route);
            let method = Arc::clone(&self.method);
            self.family.of([route, method, CLASSES[class].into()])
        })
    }
}

/// A counter a pair of code and source, made when the first such problem is answered, so that a scrape
/// shows what happened and not all that could; but for `internal`.
struct ProblemCounters {
    family: Family<Labels<3>, Counter>,
    route: Arc<str>,
    /// Made with the first one, as most routes have none.
    counters: OnceLock<Box<[OnceLock<Counter>]>>,
}

impl ProblemCounters {
    fn inc(&self, slot: usize, code: &'static str, source: &'static str) {
        let make = || {
            self.family
                .get_or_create_owned(&problem(&self.route, code, source))
        };
        let none = || std::iter::repeat_with(OnceLock::new).take(SLOTS).collect();
        if let Some(counter) = self.counters.get_or_init(none).get(slot) {
            counter.get_or_init(make).inc();
        }
    }
}
