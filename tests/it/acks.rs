//! `/v1/acks`: what a token can do, and what it cannot.

mod gone;
mod many;
mod token;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Bridge, Nats};

const KEYS: &str = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn server(messages: usize) -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({"ack_wait": 3_600_000_000_000_u64}))
        .await;
    nats.store_many("s.a", (0..messages).map(|number| number.to_string()))
        .await;
    nats
}

async fn bridge(nats: &Nats, keys: &str) -> Bridge {
    let builder = Bridge::builder().nats(nats);
    builder.env("NATSWAY_ACK_TOKENS__KEYS", keys).start().await
}

async fn fetch(bridge: &Bridge, max: usize) -> Vec<Value> {
    let path = format!("/v1/streams/S/consumers/c/fetch?max={max}&wait=10s");
    let mut body = bridge.post(&path).send().await.expect(200).json();
    serde_json::from_value(body["messages"].take()).expect("a list")
}

async fn tokens(bridge: &Bridge, max: usize) -> Vec<String> {
    let fetched = fetch(bridge, max).await;
    assert_eq!(fetched.len(), max);
    let token = |message: &Value| message["ack"].as_str().expect("a token").to_owned();
    fetched.iter().map(token).collect()
}

fn path(token: &str, query: &str) -> String {
    format!("/v1/acks/{token}{query}")
}

#[tokio::test]
async fn an_ack_settles_a_message_and_may_be_repeated() {
    let nats = server(2).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 2).await;
    for _ in 0..3 {
        let answer = bridge.post(&path(&tokens[0], "")).send().await.expect(204);
        assert!(answer.body.is_empty());
        // Confirmed means done: no waiting here.
        assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 1);
    }
    bridge
        .post(&path(&tokens[1], "?kind=ack"))
        .send()
        .await
        .expect(204);
    let info = nats.consumer_info("S", "c").await;
    assert_eq!(info["ack_floor"]["stream_seq"], 2);
}

#[tokio::test]
async fn a_nak_brings_a_message_again() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let token = &tokens(&bridge, 1).await[0];
    bridge
        .post(&path(token, "?kind=nak"))
        .send()
        .await
        .expect(204);
    let again = fetch(&bridge, 1).await;
    assert_eq!(
        (&again[0]["seq"], &again[0]["delivered"]),
        (&json!(1), &json!(2))
    );
    // An ack of the earlier delivery settles it as well.
    bridge.post(&path(token, "")).send().await.expect(204);
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 0);
}

#[tokio::test]
async fn a_nak_can_name_a_delay() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let token = &tokens(&bridge, 1).await[0];
    let start = Instant::now();
    let nak = bridge.post(&path(token, "?kind=nak&delay=1s")).send().await;
    nak.expect(204);
    let again = fetch(&bridge, 1).await;
    assert_eq!(again[0]["delivered"], 2);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_term_ends_a_message_and_says_why() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let mut spy = nats.raw().await;
    spy.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.c")
        .await;
    let token = &tokens(&bridge, 1).await[0];
    let term = path(token, "?kind=term&reason=no%20such%20customer");
    bridge.post(&term).send().await.expect(204);
    let advisory = spy.next().await.expect("an advisory");
    let advisory: Value = serde_json::from_slice(&advisory.payload).expect("JSON");
    assert_eq!(advisory["reason"], "no such customer");
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 0);
}

#[tokio::test]
async fn progress_buys_time() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({"ack_wait": 4_000_000_000_u64}))
        .await;
    nats.store("s.a", "x").await;
    let token = &tokens(&bridge, 1).await[0];
    // Longer than the ack wait in all: without progress it would be delivered again meanwhile.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        let progress = bridge.post(&path(token, "?kind=progress")).send().await;
        progress.expect(204);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(nats.consumer_info("S", "c").await["num_redelivered"], 0);
    bridge.post(&path(token, "")).send().await.expect(204);
}

#[tokio::test]
async fn parameters_are_checked_before_anything_is_sent() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let token = tokens(&bridge, 1).await.remove(0);
    for query in [
        "?kind=Ack",
        "?kind=",
        "?delay=5s",
        "?kind=nak&delay=5",
        "?kind=ack&reason=x",
        "?kind=term&reason=",
        "?kind=term&reason=a%0Ab",
        "?kinds=ack",
        "?wait=5s",
    ] {
        let answer = bridge.post(&path(&token, query)).send().await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.code(), "invalid-parameter", "{query}");
    }
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 1);
}

#[tokio::test]
async fn what_is_fetched_and_settled_is_counted() {
    let nats = server(3).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 3).await;
    for kind in ["ack", "nak"] {
        let query = format!("?kind={kind}");
        bridge
            .post(&path(&tokens[0], &query))
            .send()
            .await
            .expect(204);
    }
    let acks = json!({"acks": [{"token": tokens[1]}, {"token": "forged", "kind": "term"}]});
    bridge.post("/v1/acks").json(&acks).send().await.expect(200);
    let metrics = bridge.metrics().await;
    for (name, labels, value) in [
        (
            "acks_total",
            &[("kind", "ack"), ("result", "confirmed")][..],
            2.0,
        ),
        (
            "acks_total",
            &[("kind", "nak"), ("result", "confirmed")],
            1.0,
        ),
        (
            "acks_total",
            &[("kind", "term"), ("result", "refused")],
            1.0,
        ),
        ("acks_total", &[("kind", "ack"), ("result", "failed")], 0.0),
        ("ack_retries_total", &[], 0.0),
        ("fetch_messages_total", &[("result", "delivered")], 3.0),
        ("fetch_messages_total", &[("result", "given_back")], 0.0),
        ("fetch_messages_total", &[("result", "left")], 0.0),
        ("fetches_waiting", &[], 0.0),
    ] {
        let found = metrics.get(&format!("natsway_{name}"), labels);
        assert_eq!(found, Some(value), "{name} {labels:?}");
    }
    let pulls = metrics.get("natsway_fetch_pulls_total", &[("result", "ended")]);
    assert!(pulls >= Some(1.0), "{pulls:?}");
}
