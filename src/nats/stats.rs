//! Counters of a link, read by the metrics when they are scraped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a link counts over all its connections.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// Connections made.
    pub connects: AtomicU64,
    /// Connections lost.
    pub disconnects: AtomicU64,
    /// Attempts that failed.
    pub connect_failures: AtomicU64,
    /// Messages that a subscription lost because it was not read fast enough.
    pub slow_consumers: AtomicU64,
    /// Permission errors reported by the server.
    pub permission_errors: AtomicU64,
    /// Other errors reported by the server.
    pub server_errors: AtomicU64,
    /// Messages handed to the connection.
    pub sent_messages: AtomicU64,
    /// Bytes handed to the connection.
    pub sent_bytes: AtomicU64,
    /// Messages taken over without a wish for confirmation and lost with a connection.
    pub lost_unconfirmed: AtomicU64,
    round_trip_ns: AtomicU64,
}

impl LinkStats {
    /// The time of the last fence on its way there and back; zero before the first.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        Duration::from_nanos(self.round_trip_ns.load(Ordering::Relaxed))
    }

    pub(super) fn set_round_trip(&self, time: Duration) {
        let ns = time.as_nanos().try_into().unwrap_or(u64::MAX);
        self.round_trip_ns.store(ns, Ordering::Relaxed);
    }
}
