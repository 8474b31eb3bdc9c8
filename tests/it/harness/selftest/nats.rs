use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::{Nats, SOON, arrived, eventually, round_trip, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_comes_back_on_its_port_with_its_streams() {
    let nats = Nats::start().await;
    nats.stream("ORDERS", &["orders.>"], json!({})).await;
    let port = nats.port;
    nats.restart().await;
    assert_eq!(nats.port, port);
    assert_eq!(nats.stream_state("ORDERS").await["messages"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bytes_and_an_ordinary_client_see_the_same_messages() {
    let nats = Nats::start().await;
    let client = nats.client().await;
    let mut subscription = client.subscribe("greet.*").await.expect("subscribed");
    round_trip(&client).await;
    let mut raw = nats.raw().await;
    raw.subscribe("greet.>").await;

    raw.publish_headers(
        "greet.joe",
        "answers",
        b"NATS/1.0\r\nA: 1\r\n\r\n",
        b"hello",
    )
    .await;

    let seen = raw.next().await.expect("delivered");
    assert_eq!(seen.reply.as_deref(), Some("answers"));
    assert_eq!(seen.header_text(), "NATS/1.0\r\nA: 1\r\n\r\n");
    assert_eq!(seen.text(), "hello");
    let seen = within(SOON, "a message", subscription.next())
        .await
        .expect("delivered");
    assert_eq!(&seen.payload[..], b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_take_effect_on_reload() {
    let users = |permissions: &str| {
        format!(
            "authorization {{ users: [{{ user: a, password: a, permissions: {permissions} }}] }}"
        )
    };
    let nats = Nats::builder()
        .config(&users("{ publish: \">\" }"))
        .start()
        .await;
    let before = nats.client_as("a", "a").await;
    before.flush().await.expect("connected");
    nats.reload(&users("{ publish: \"only.this\" }")).await;
    let mut raw = crate::harness::raw::Client::connect_with(
        &nats.host_port(),
        "\"user\":\"a\",\"pass\":\"a\",",
    )
    .await;
    raw.publish("other", b"").await;
    raw.flush().await;
    assert!(
        raw.errors
            .iter()
            .any(|e| e.contains("Permissions Violation")),
        "{:?}",
        raw.errors
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_answers_again_when_it_goes_on() {
    let nats = Nats::start().await;
    let client = nats.client().await;
    nats.pause().await;
    let request = client.request("$JS.API.INFO", "".into());
    let paused = tokio::time::timeout(Duration::from_millis(200), request).await;
    assert!(paused.is_err(), "a stopped process does not answer");
    nats.resume();
    assert!(nats.js("INFO", &json!({})).await.get("error").is_none());
}

#[tokio::test]
async fn all_that_has_arrived_is_read_however_much_it_is() {
    let nats = Nats::start().await;
    let client = nats.client().await;
    let mut subscriber = client.subscribe("a").await.expect("subscribed");
    for _ in 0..1000 {
        client.publish("a", "x".into()).await.expect("sent");
    }
    round_trip(&client).await;
    assert_eq!(arrived(&mut subscriber).await.len(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_says_so_and_ends() {
    let nats = Nats::start().await;
    let client = nats.client().await;
    client.flush().await.expect("connected");
    nats.lame_duck();
    eventually(SOON, "the server enters lame duck mode", async || {
        nats.log()
            .iter()
            .any(|line| line.contains("lame duck mode"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_forms_and_replicates() {
    let cluster = Cluster::start().await;
    cluster.nodes[0]
        .stream("R3", &["r3.>"], json!({"num_replicas": 3}))
        .await;
    let info = cluster.nodes[1].js("STREAM.INFO.R3", &json!({})).await;
    assert_eq!(info["config"]["num_replicas"], 3, "{info}");
    let leader = info["cluster"]["leader"]
        .as_str()
        .expect("a leader")
        .to_owned();
    cluster.node(&leader).restart().await;
    cluster.is_formed().await;
}
