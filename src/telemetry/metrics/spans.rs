//! What becomes of the spans of traced requests.

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Counter, Gauge, Labels, Metrics};

/// The families, as they are registered.
#[derive(Debug, Default)]
pub(super) struct Families {
    spans: Family<Labels<1>, Counter>,
    waiting: Gauge,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        // A counter that is not there from the start has no first increase.
        let _at_zero = self.handles();
        registry.register(
            "traces_spans",
            "Spans of traced requests, by what became of them",
            self.spans.clone(),
        );
        registry.register(
            "traces_spans_waiting",
            "Spans that wait for the collector, 2048 at most",
            self.waiting.clone(),
        );
    }

    fn handles(&self) -> TraceCounters {
        let of = |result: &str| {
            self.spans
                .get_or_create_owned(&Labels([("result", result.into())]))
        };
        TraceCounters {
            exported: of("exported"),
            failed: of("failed"),
            dropped: of("dropped"),
            skipped: of("skipped"),
            waiting: self.waiting.clone(),
        }
    }
}

impl Metrics {
    /// What becomes of spans.
    #[must_use]
    pub fn traces(&self) -> TraceCounters {
        self.spans.handles()
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
