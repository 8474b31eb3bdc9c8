//! A fetch whose pull, consumer, stream or client goes away.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ACK_WAIT, FETCH, fetch, messages, server};
use crate::harness::faults::Proxy;
use crate::harness::{Answer, Bridge, Nats, SOON, eventually};

/// A fetch that waits at the server, behind a proxy.
async fn waiting(
    nats: &Nats,
    wait: &'static str,
) -> (Proxy, Bridge, tokio::task::JoinHandle<Answer>) {
    let proxy = Proxy::to(&nats.host_port()).await;
    let builder = Bridge::builder().servers(&proxy.url());
    let bridge = builder.yaml("nats: { ping_interval: 60s }").start().await;
    let client = bridge.client();
    let fetching = tokio::spawn(async move {
        let request = client.post(&format!("{FETCH}?max=10&wait={wait}"));
        request.send().await
    });
    eventually(SOON, "the fetch waits at the server", async || {
        nats.consumer_info("S", "c").await["num_waiting"] == 1
    })
    .await;
    (proxy, bridge, fetching)
}

#[tokio::test]
async fn a_pull_that_got_lost_is_sent_again() {
    let nats = server().await;
    let (proxy, bridge, fetching) = waiting(&nats, "25s").await;
    proxy.stall_replies();
    let lost = [("result", "lost")];
    bridge
        .metric_becomes("natsway_fetch_pulls_total", &lost, |n| n >= 1.0)
        .await;
    proxy.heal();
    nats.store("s.a", "here").await;
    let stored = Instant::now();
    let fetched = messages(fetching.await.expect("no panic"));
    assert_eq!(fetched[0]["data"], "here");
    assert!(
        stored.elapsed() < Duration::from_secs(10),
        "{:?}",
        stored.elapsed()
    );
}

#[tokio::test]
async fn silence_is_not_an_empty_queue() {
    let nats = server().await;
    let (proxy, _bridge, fetching) = waiting(&nats, "5s").await;
    proxy.stall_replies();
    let answer = fetching.await.expect("no panic");
    let problem = answer.expect_problem(503, "jetstream-unavailable");
    assert_eq!(
        (&problem["outcome"], &problem["retryable"]),
        (&json!("not_sent"), &json!(true))
    );
}

#[tokio::test]
async fn one_message_is_not_held_until_the_end() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store("s.a", "x").await;
    let start = Instant::now();
    assert_eq!(fetch(&bridge, "max=10&wait=20s").await.len(), 1);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_reader_of_lines_is_told_why_nothing_follows() {
    for (delete, reason) in [
        ("CONSUMER.DELETE.S.c", "consumer-deleted"),
        ("STREAM.DELETE.S", "stream-deleted"),
    ] {
        let nats = server().await;
        let bridge = Bridge::start(&nats, "").await;
        let large = "x".repeat(200_000);
        nats.store_many("s.a", std::iter::repeat_n(large, 100))
            .await;
        let request = bridge.post(&format!("{FETCH}?max=100&wait=20s"));
        let mut lines = request
            .header("accept", "application/x-ndjson")
            .stream()
            .await;
        lines.json_line().await.expect("a line");
        nats.js(delete, &json!({})).await;
        let mut last = Value::Null;
        let mut count = 1;
        while let Some(line) = lines.json_line().await {
            assert!(last.get("notice").is_none(), "nothing follows an end");
            count += 1;
            last = line;
        }
        assert_eq!(last, json!({"notice": "end", "reason": reason}));
        assert!(count < 100, "it was deleted in the middle");
    }
}

const MESSAGES: usize = 40;

/// Asks for all messages, leaves with the head, and fetches what comes again.
async fn leave_unread(bridge: &Bridge, accept: &str) {
    let mut raw = bridge.raw().await;
    let head = format!(
        "POST {FETCH}?max={MESSAGES}&wait=5s HTTP/1.1\r\nHost: localhost\r\n\
         Accept: {accept}\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(raw.send(head).await);
    assert_eq!(raw.head().await.expect("a head").status, 200);
    drop(raw);
    let gone = Instant::now();
    // What the sockets took is at most 4 MiB.
    let mut again = 0;
    while again < MESSAGES - (4 << 20) / 200_000 {
        again += fetch(bridge, "max=40&wait=1s").await.len();
        assert!(
            gone.elapsed() < Duration::from_secs(20),
            "{accept}: {again}"
        );
    }
}

#[tokio::test]
async fn what_a_client_leaves_unread_is_delivered_again_within_seconds() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let large = "x".repeat(200_000);
    nats.store_many("s.a", std::iter::repeat_n(large, MESSAGES))
        .await;
    let given_back = async || {
        let labels = [("result", "given_back")];
        bridge.metric("natsway_fetch_messages_total", &labels).await
    };
    for accept in ["application/json", "application/x-ndjson"] {
        // On a busy machine a fetch may end with so few that the sockets take them all.
        eventually(SOON * 2, "something is left unread", async || {
            let before = given_back().await;
            leave_unread(&bridge, accept).await;
            nats.js("CONSUMER.DELETE.S.c", &json!({})).await;
            nats.consumer("S", "c", json!({"ack_wait": ACK_WAIT})).await;
            given_back().await > before
        })
        .await;
    }
}
