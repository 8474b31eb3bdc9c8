//! Three nodes: one is killed, one leaves, all are restarted in turn; natsway's links on different
//! nodes see one another's subscriptions.

use std::time::Duration;

use super::load::{Load, Shape};
use crate::harness::cluster::Cluster;
use crate::harness::history::Promise;
use crate::harness::{Bridge, SOON, eventually, soak};

const LOAD: Shape = Shape {
    subject: "ticks.now",
    query: "confirm=server&timeout=5s",
    with_key: false,
    timeout: Duration::from_secs(5),
};

/// The index of the node that carries natsway's messages.
async fn node_in_use(cluster: &Cluster) -> usize {
    let mut most = (0, 0);
    for (index, node) in cluster.nodes.iter().enumerate() {
        let Ok(connections) = tokio::time::timeout(SOON, node.connections()).await else {
            continue;
        };
        let sent = connections
            .iter()
            .filter(|c| c["name"].as_str().is_some_and(|n| n.starts_with("natsway")));
        let sent: u64 = sent.filter_map(|c| c["in_msgs"].as_u64()).sum();
        if sent > most.1 {
            most = (index, sent);
        }
    }
    most.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_costs_no_request() {
    let cluster = Cluster::start().await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let load = Load::start(&bridge, soak(300, 2000), LOAD);
    load.flows(200, SOON).await;
    let leaving = node_in_use(&cluster).await;
    let node = &cluster.nodes[leaving];
    node.lame_duck();
    eventually(SOON, "natsway has left the node", async || {
        node.is_left().await
    })
    .await;
    load.flows(200, SOON).await;
    let history = load.finish().await;
    assert_eq!(
        history.count(Promise::Never) + history.count(Promise::Open),
        0,
        "no request failed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_nodes_in_turn_is_survived() {
    let cluster = Cluster::start().await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let load = Load::start(&bridge, soak(300, 2000), LOAD);
    for node in &cluster.nodes {
        load.flows(100, SOON).await;
        node.kill9();
        load.flows(100, SOON).await;
        node.restart().await;
    }
    load.flows(100, SOON).await;
    let slowest = load.slowest();
    load.finish().await;
    assert!(
        slowest < LOAD.timeout + Duration::from_millis(250),
        "{slowest:?}"
    );
}

/// The node that a link was last connected to.
fn node_of(bridge: &Bridge, link: &str) -> String {
    let log = bridge.log();
    let mut connected = log.iter().filter(|line| {
        let text = line.to_string();
        text.contains("\"connected to NATS\"") && text.contains(&format!("\"{link}\""))
    });
    let last = connected.next_back().expect("it was connected");
    let server = last["server"]
        .as_str()
        .or(last["fields"]["server"].as_str());
    server.expect("the server is named").to_owned()
}

/// A natsway whose messages and subscriptions go over different nodes.
async fn bridge_on_two_nodes(cluster: &Cluster) -> Bridge {
    for _ in 0..40 {
        let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
        bridge.is_connected().await;
        if node_of(&bridge, "messages-0") != node_of(&bridge, "subscriptions") {
            return bridge;
        }
    }
    panic!("links choose their server at random");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_when_messages_move_to_another_node() {
    let cluster = Cluster::start().await;
    let bridge = bridge_on_two_nodes(&cluster).await;
    let mut reader = bridge.sse("/v1/subscribe/moved").await.expect_ok();
    cluster.node(&node_of(&bridge, "messages-0")).kill9();
    let link = [("link", "messages-0")];
    bridge
        .metric_becomes("natsway_nats_connects_total", &link, |count| count >= 2.0)
        .await;
    bridge.is_connected().await;
    let publish = bridge.post("/v1/publish/moved?timeout=5s").body("after");
    publish.send().await.expect(204);
    let elsewhere = node_of(&bridge, "messages-0") != node_of(&bridge, "subscriptions");
    let (mut told, mut seen) = (!elsewhere, false);
    while !(told && seen) {
        let event = reader.event().await.expect("the stream goes on");
        match event.event.as_deref() {
            None => seen |= event.json()["data"] == "after",
            Some("gap") => told |= event.json()["reason"] == "reconnected",
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_right_after_the_head_is_seen_from_another_node() {
    let cluster = Cluster::start().await;
    // A server's number is random for each link; enough connections make it sure that the messages
    // take other nodes than the subscriptions.
    let bridge = Bridge::builder()
        .servers(&cluster.urls())
        .yaml("nats: { connections: 6 }")
        .start()
        .await;
    let mut missed = 0;
    for i in 0..soak(300, 1000) {
        let mut reader = bridge
            .sse(&format!("/v1/subscribe/fresh.{i}"))
            .await
            .expect_ok();
        let sent = bridge
            .post(&format!("/v1/publish/fresh.{i}?confirm=none"))
            .body("first")
            .send()
            .await;
        sent.expect(202);
        match tokio::time::timeout(Duration::from_secs(5), reader.event()).await {
            Ok(Some(event)) if event.json()["data"] == "first" => {}
            _ => missed += 1,
        }
    }
    assert_eq!(missed, 0);
}
