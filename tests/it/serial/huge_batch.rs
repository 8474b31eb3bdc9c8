//! A batch larger than all the memory that natsway may use.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::harness::{Bridge, Nats, soak, within};

const MIB: usize = 1024 * 1024;

/// One piece of whole lines again and again, without a declared length.
struct Lines {
    path: &'static str,
    content_type: &'static str,
    line: String,
}

impl Lines {
    /// Payloads, one a line.
    fn split(path: &'static str) -> Self {
        Self {
            path,
            content_type: "text/plain",
            line: format!("{}\n", "x".repeat(1023)),
        }
    }

    /// Messages in JSON, one a line.
    fn ndjson(path: &'static str) -> Self {
        let mut line = json!({"subject": "huge", "headers": {"X": "y"}, "data": ""}).to_string();
        let filler = "x".repeat(1023 - line.len());
        line = line.replace("\"data\":\"\"", &format!("\"data\":\"{filler}\""));
        Self {
            path,
            content_type: "application/x-ndjson",
            line: format!("{line}\n"),
        }
    }

    async fn publish(&self, bridge: &Bridge, bytes: usize) -> Value {
        assert_eq!(self.line.len(), 1024);
        let piece = Bytes::from(self.line.repeat(64));
        let pieces = std::iter::repeat_n(piece, bytes / (64 * 1024));
        let body = stream::iter(pieces.map(Ok::<_, std::io::Error>));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client
            .post(bridge.url(self.path))
            .header("content-type", self.content_type)
            .body(reqwest::Body::wrap_stream(body))
            .send();
        let answer = within(Duration::from_secs(1200), "the batch", sent)
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["published"], bytes / 1024, "{answer}");
        answer
    }

    /// Publishes `bytes` and says what came of them; natsway must not have grown meanwhile.
    async fn is_never_held_whole(&self, bridge: &Bridge, bytes: usize) -> Value {
        // What the first batch needs stays, and is no growth.
        self.publish(bridge, soak(4, 64) * MIB).await;
        let before = bridge.rss_bytes();
        let mut most = before;
        let mut every = tokio::time::interval(Duration::from_millis(50));
        let published = self.publish(bridge, bytes);
        let mut published = std::pin::pin!(published);
        let answer = loop {
            tokio::select! {
                answer = published.as_mut() => break answer,
                _ = every.tick() => most = most.max(bridge.rss_bytes()),
            }
        };
        let grown = most.max(bridge.rss_bytes()).saturating_sub(before);
        eprintln!("{}: {bytes} bytes, {grown} more at most", self.path);
        assert!(
            grown < 32 * MIB as u64,
            "{grown} bytes more within {bytes} bytes"
        );
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_never_held_whole() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let total = soak(32, 1024) * MIB;
    let lines = Lines::split("/v1/publish/huge?split=lines&timeout=30s");
    lines.is_never_held_whole(&bridge, total).await;
    let lines = Lines::ndjson("/v1/publish?timeout=30s");
    lines.is_never_held_whole(&bridge, total).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_stored_is_never_held_whole() {
    let nats = Nats::start().await;
    // The oldest go, so that the disk need not hold it either.
    let small = json!({"max_bytes": 32 * MIB, "discard": "old"});
    nats.stream("HUGE", &["huge"], small).await;
    let bridge = Bridge::start(&nats, "").await;
    let total = soak(8, 1024) * MIB;
    let mut last = 0;
    for lines in [
        Lines::split("/v1/publish/huge?split=lines&confirm=stream&timeout=30s"),
        Lines::ndjson("/v1/publish?confirm=stream&timeout=30s"),
    ] {
        let answer = lines.is_never_held_whole(&bridge, total).await;
        let stored = &answer["streams"]["HUGE"];
        last += (soak(4, 64) * MIB + total) / 1024;
        assert_eq!(stored["last_seq"], last, "{answer}");
        assert_eq!(stored["duplicates"], 0, "{answer}");
    }
    let state = nats.stream_state("HUGE").await;
    assert_eq!(state["last_seq"], last, "{state}");
    assert!(
        state["bytes"]
            .as_u64()
            .is_some_and(|held| held <= 32 * MIB as u64),
        "{state}"
    );
}
