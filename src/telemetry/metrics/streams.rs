//! What is counted of streams: why they end, and how late their messages are.

use std::fmt;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::durations::{self, Durations};
use super::histogram::Histogram;
use super::{Counter, Labels, Metrics};

/// The families. The registry knows no histograms of ours, so the lags are written behind it.
pub(super) struct Families {
    ends: StreamEnds,
    lags: Durations<1>,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            ends: StreamEnds::default(),
            lags: Durations::new(
                "natsway_stream_lag_seconds",
                "Age of the oldest message in each write to a stream's client",
                ["route"],
                durations::LAG,
            ),
        }
    }
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "stream_ends",
            "Streams that have ended, by reason",
            self.ends.0.clone(),
        );
    }

    pub(super) fn write(&self, to: &mut String) -> fmt::Result {
        self.lags.write(to)
    }
}

impl Metrics {
    /// Why streams end.
    #[must_use]
    pub fn stream_ends(&self) -> StreamEnds {
        self.streams.ends.clone()
    }

    /// How late the messages of a route's streams are.
    #[must_use]
    pub fn stream_lag(&self, route: &str) -> StreamLag {
        StreamLag(self.streams.lags.of([route.into()]))
    }
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

/// How old the oldest message of a write is.
#[derive(Clone, Debug)]
pub struct StreamLag(Histogram);

impl StreamLag {
    /// One write.
    pub fn observe(&self, age: Duration) {
        self.0.observe(age, None);
    }
}
