//! The links to NATS: what they cost, what they survive, and what never goes over them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Bridge, Nats, SOON, arrived, eventually, round_trip};

/// A frozen server is not given up while a test looks at it.
const PATIENT: &str = "nats: { ping_interval: 60s }\n";

/// What the server has received so far.
async fn messages_in(nats: &Nats) -> u64 {
    let page = nats.monitor("/varz").await;
    page["in_msgs"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fence_confirms_all_who_wait() {
    const COUNT: usize = 1000;
    let nats = Nats::start().await;
    let yaml = format!("{PATIENT}api: {{ publish: {{ timeout: 25s }} }}");
    let bridge = Bridge::start(&nats, &yaml).await;
    let before = messages_in(&nats).await;
    // What is asked while the server stands still has gathered when it goes on.
    nats.pause().await;
    let mut publishes = JoinSet::new();
    for i in 0..COUNT {
        publishes.spawn(bridge.post(&format!("/v1/publish/a.{i}")).body("x").send());
    }
    eventually(SOON, "all wait for the server", async || {
        let metrics = bridge.metrics().await;
        let of = |name| metrics.get(name, &[("link", "messages-0")]);
        let sent = of("natsway_nats_sent_messages_total").unwrap_or_default();
        sent + of("natsway_nats_queue_messages").unwrap_or_default() >= COUNT as f64
    })
    .await;
    nats.resume();
    while let Some(answer) = publishes.join_next().await {
        answer.unwrap().expect(204);
    }
    let cost = messages_in(&nats).await - before;
    assert!((1000..1300).contains(&cost), "{cost} messages for {COUNT}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_not_to_be_sent_never_arrives() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, PATIENT).await;
    let witness = nats.client().await;
    let mut seen = witness.subscribe("late.>").await.unwrap();
    round_trip(&witness).await;
    nats.pause().await;
    // More than the sockets between the two hold.
    let payload = vec![b'x'; 256 * 1024];
    let mut publishes = JoinSet::new();
    for i in 0..100 {
        let path = format!("/v1/publish/late.{i}?timeout=1s");
        let request = bridge.post(&path).body(payload.clone());
        publishes.spawn(async move { (format!("late.{i}"), request.send().await) });
    }
    let mut not_sent = HashSet::new();
    for (subject, answer) in publishes.join_all().await {
        assert!(
            !answer.status.is_success(),
            "nobody confirms: {}",
            answer.status
        );
        if answer.json()["outcome"] == "not_sent" {
            not_sent.insert(subject);
        }
    }
    assert!(!not_sent.is_empty());
    nats.resume();
    eventually(SOON, "natsway goes on", async || {
        bridge.post("/v1/publish/late.end").send().await.status == 204
    })
    .await;
    round_trip(&witness).await;
    let mut came = HashSet::new();
    for message in arrived(&mut seen).await {
        let subject = message.subject.to_string();
        assert!(!not_sent.contains(&subject), "{subject} arrived");
        assert!(
            came.insert(subject.clone()) || subject == "late.end",
            "{subject} arrived twice"
        );
    }
    assert!(came.contains("late.end"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_subscriptions_and_a_held_fetch_do_not_stop_publishes() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    let bridge = Bridge::start(&nats, "nats: { connections: 3, ping_interval: 2s }").await;
    bridge.is_connected().await;
    let cids = nats.bridge_cids().await;
    assert_eq!(
        cids.len(),
        5,
        "three for messages, subscriptions, JetStream"
    );
    let _reader = bridge.sse("/v1/subscribe/flood").await.expect_ok();
    let client = bridge.client();
    let fetch = tokio::spawn(async move {
        loop {
            let path = "/v1/streams/S/consumers/c/fetch?max=1&wait=20s";
            let fetched = client.post(path).send().await.expect(200).json();
            // A busy machine may take longer over the flood than a fetch lasts.
            if fetched["messages"] != json!([]) {
                return fetched;
            }
        }
    });
    eventually(SOON, "the fetch is held", async || {
        nats.consumer_info("S", "c").await["num_waiting"] == 1
    })
    .await;
    let flooding = nats.client().await;
    let flood = tokio::spawn(async move {
        loop {
            let payload = bytes::Bytes::from_static(&[b'x'; 1024]);
            flooding.publish("flood", payload).await.unwrap();
        }
    });
    // Longer than the three intervals after which a silent connection is given up.
    let end = Instant::now() + Duration::from_secs(8);
    let mut answered = 0;
    while Instant::now() < end || answered < 100 {
        let path = format!("/v1/publish/calm.{answered}");
        bridge.post(&path).body("x").send().await.expect(204);
        answered += 1;
    }
    flood.abort();
    assert_eq!(nats.bridge_cids().await, cids, "no connection was lost");
    nats.store("s.a", "here").await;
    let fetched = fetch.await.unwrap();
    assert_eq!(fetched["messages"][0]["data"], "here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_read_again_at_every_connect() {
    let users = |password: &str| {
        format!("authorization {{ users = [ {{ user: u, password: {password} }} ] }}")
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let nats = Nats::builder().config(&users("first")).start().await;
    let yaml = format!(
        "nats: {{ auth: {{ user: u, password_file: {} }} }}",
        file.display()
    );
    let bridge = Arc::new(Bridge::start(&nats, &yaml).await);
    bridge
        .post("/v1/publish/a")
        .body("x")
        .send()
        .await
        .expect(204);
    nats.kill9();
    std::fs::write(&file, "second\n").unwrap();
    nats.reconfigure(&users("second"));
    nats.restart().await;
    bridge.is_connected().await;
    bridge
        .post("/v1/publish/a")
        .body("x")
        .send()
        .await
        .expect(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_flush_learns_that_the_connection_went() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, PATIENT).await;
    nats.pause().await;
    // More than the sockets hold; without a confirmation, only its flushes are waited for.
    let lines = format!("{}\n", "x".repeat(100 * 1024)).repeat(200);
    let path = "/v1/publish/a?split=lines&confirm=none&timeout=25s";
    let batch = tokio::spawn(bridge.post(path).body(lines).send());
    bridge
        .metric_becomes("natsway_nats_queue_messages", &[], |count| count >= 1.0)
        .await;
    nats.kill9();
    let start = Instant::now();
    let answer = batch.await.unwrap();
    assert!(!answer.status.is_success(), "{}", answer.status);
    assert!(start.elapsed() < Duration::from_secs(15), "{answer:?}");
}
