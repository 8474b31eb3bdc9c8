//! A batch larger than all the memory that natsway may use.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use crate::harness::{Bridge, Nats, soak, within};

const MIB: usize = 1024 * 1024;

/// One piece again and again, without a declared length.
fn body(total_bytes: usize, piece: &Bytes) -> reqwest::Body {
    let pieces = std::iter::repeat_n(piece.clone(), total_bytes / piece.len());
    reqwest::Body::wrap_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)))
}

async fn publish(bridge: &Bridge, bytes: usize, piece: &Bytes) -> usize {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = bridge.url("/v1/publish/huge?split=lines&timeout=30s");
    let sent = client.post(url).body(body(bytes, piece)).send();
    let answer = within(Duration::from_secs(600), "the batch", sent)
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = answer.json().await.unwrap();
    usize::try_from(answer["published"].as_u64().unwrap()).unwrap()
}

#[tokio::test]
async fn a_batch_is_never_held_whole() {
    let total = soak(200, 1024) * MIB;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let line = format!("{}\n", "x".repeat(1023));
    let piece = Bytes::from(line.repeat(64));
    // What the first batch needs stays, and is no growth.
    publish(&bridge, 20 * MIB, &piece).await;
    let before = bridge.rss_bytes();
    assert_eq!(publish(&bridge, total, &piece).await, total / 1024);
    let grown = bridge.rss_bytes().saturating_sub(before);
    assert!(
        grown < 32 * MIB as u64,
        "{grown} bytes more after {total} bytes"
    );
}
