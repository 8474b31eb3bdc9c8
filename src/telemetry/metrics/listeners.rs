//! What is counted of a listener, before there is a route: open connections, and clients that never got
//! as far as one.

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Counter, Gauge, Labels, Metrics};

/// The families, as they are registered.
#[derive(Debug, Default)]
pub(super) struct Families {
    connections: Family<Labels<1>, Gauge>,
    rejections: Family<Labels<2>, Counter>,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
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
    }
}

impl Metrics {
    /// Open connections of a listener: `data` or `admin`.
    #[must_use]
    pub fn connections(&self, listener: &str) -> Gauge {
        self.listeners
            .connections
            .get_or_create_owned(&Labels([("listener", listener.into())]))
    }

    /// Those whom a listener turns away before there is a request.
    #[must_use]
    pub fn rejections(&self, listener: &str) -> Rejections {
        let of = |reason: &str| {
            let labels = [("listener", listener.into()), ("reason", reason.into())];
            let rejections = &self.listeners.rejections;
            rejections.get_or_create_owned(&Labels(labels))
        };
        Rejections {
            malformed: of("malformed"),
            too_large: of("too-large"),
            header_timeout: of("header-timeout"),
            connections_max: of("connections-max"),
        }
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
