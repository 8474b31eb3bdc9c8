//! Routes that are declared in the configuration.

use super::{envelope, publish};
use crate::harness::{Bridge, Nats, round_trip};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_route_streams_its_own_subjects() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(
        &nats,
        "routes:
  - name: order-feed
    match: { method: GET, path: \"/orders/{region}/feed\" }
    subscribe: { subjects: [\"orders.{region}.>\", \"news.{region}\"] }
    params: [max, timeout]
  - name: jobs
    match: { method: GET, path: /jobs }
    subscribe: { subjects: [jobs], queue: workers }
",
    )
    .await;
    let mut ndjson = bridge.ndjson("/orders/eu/feed?max=2&color=red").await;
    let mut ws = bridge.ws("/orders/eu/feed?max=2").await;
    let client = nats.client().await;
    for subject in ["orders.us.new", "orders.eu.new", "news.us", "news.eu"] {
        publish(&client, subject, 1..2).await;
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(ndjson.json_line().await.expect("a line"));
        ws.next().await;
    }
    seen.sort_by_key(|line| line["subject"].to_string());
    assert_eq!(seen, [envelope("news.eu", 1), envelope("orders.eu.new", 1)]);
    assert_eq!(ndjson.json_line().await.expect("the end")["reason"], "max");
    assert_eq!(ws.closed().await, Some((1000, "max".to_owned())));
    for (path, status, code) in [
        ("/orders/eu.%3E/feed", 400, "invalid-subject"),
        ("/orders/*/feed", 400, "invalid-subject"),
        ("/orders/eu/feed?queue=q", 400, "invalid-parameter"),
        ("/orders/eu/feed?subject=b", 400, "invalid-parameter"),
        ("/orders/eu/feed?timeout=1m", 400, "invalid-parameter"),
    ] {
        bridge.get(path).send().await.expect_problem(status, code);
    }
    let _members = [bridge.sse("/jobs").await, bridge.sse("/jobs").await];
    assert_eq!(nats.subscriptions("jobs").await, 2, "each its own member");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routes_own_buffer_holds_where_others_read_the_subject_already() {
    const COUNT: usize = 2000;
    let nats = Nats::start().await;
    let yaml = "
api: { subscribe: { buffer: { messages: 16, bytes: 1MiB } } }
memory: { streams: 256MiB }
routes:
  - name: patient
    match: { method: GET, path: /patient }
    subscribe: { subjects: [big], buffer: { messages: 10000, bytes: 64MiB } }
";
    let bridge = Bridge::start(&nats, yaml).await;
    let _hasty = bridge.sse("/v1/subscribe/big").await;
    let mut patient = bridge.sse("/patient").await;
    let client = nats.client().await;
    // More than sockets hold, so that it waits in the ring while nobody reads.
    for number in 0..COUNT {
        let payload = format!("{{\"number\":{number},\"x\":\"{}\"}}", "x".repeat(10_000));
        client.publish("big", payload.into()).await.unwrap();
    }
    round_trip(&client).await;
    for number in 0..COUNT {
        let event = patient.event().await.unwrap();
        assert_eq!(event.json()["data"]["number"], number, "{:?}", event.event);
    }
}
