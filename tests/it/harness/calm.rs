//! What bad input must leave as it was: natsway's connections to NATS, and whoever reads through them.

use super::client::Opened;
use super::{Bridge, Nats};

/// What natsway itself counts of its connections. None of these may move.
const COUNTERS: [&str; 5] = [
    "natsway_nats_connects_total",
    "natsway_nats_disconnects_total",
    "natsway_nats_connect_failures_total",
    "natsway_nats_permission_errors_total",
    "natsway_nats_server_errors_total",
];

/// How things stood before, and a reader who must not notice anything.
pub(crate) struct Calm<'a> {
    nats: &'a Nats,
    bridge: &'a Bridge,
    cids: Vec<u64>,
    counted: [f64; COUNTERS.len()],
    reader: Opened,
}

impl<'a> Calm<'a> {
    /// Looks at a natsway that has all its connections.
    pub(crate) async fn before(nats: &'a Nats, bridge: &'a Bridge) -> Self {
        bridge.is_connected().await;
        Self {
            reader: bridge.ndjson("/v1/subscribe/calm").await,
            cids: nats.bridge_cids().await,
            counted: counted(bridge).await,
            nats,
            bridge,
        }
    }

    /// Fails unless the server sees the same connections as before, natsway counts the same number of
    /// connects, disconnects and errors, and the reader has missed nothing.
    pub(crate) async fn holds(mut self) {
        // One round trip over each link: whatever was sent before has been judged by the server.
        let sent = self.bridge.post("/v1/publish/calm").body("\"all is well\"");
        sent.send().await.expect(204);
        let line = self.reader.json_line().await;
        let line = line.expect("the reader's stream goes on");
        assert_eq!(line["data"], "all is well", "{line}");
        let streams = self.bridge.get("/v1/streams").send().await;
        assert!(
            matches!(streams.status.as_u16(), 200 | 501),
            "{}",
            streams.text()
        );
        let counted = counted(self.bridge).await;
        for (name, (before, now)) in COUNTERS.iter().zip(self.counted.iter().zip(counted)) {
            assert!(
                (before - now).abs() < 0.5,
                "{name}: {before} before, {now} now"
            );
        }
        assert_eq!(
            self.nats.bridge_cids().await,
            self.cids,
            "another connection than before"
        );
    }
}

async fn counted(bridge: &Bridge) -> [f64; COUNTERS.len()] {
    let metrics = bridge.metrics().await;
    COUNTERS.map(|name| {
        let value = metrics.get(name, &[]);
        value.unwrap_or_else(|| panic!("natsway does not count {name}"))
    })
}
