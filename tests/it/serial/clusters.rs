//! Three nodes: one is killed, one leaves, all are restarted in turn; natsway's links on different
//! nodes see one another's subscriptions.

use std::time::Duration;

use tokio::task::JoinSet;

use super::load::{Load, Shape};
use crate::harness::cluster::Cluster;
use crate::harness::faults::Proxy;
use crate::harness::history::Promise;
use crate::harness::{Answer, Bridge, SOON, eventually, eventually_some, respond, soak};

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
async fn nodes_that_leave_cost_no_request() {
    let cluster = Cluster::start().await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let load = Load::start(&bridge, soak(300, 2000), LOAD);
    load.flows(200, SOON).await;
    // Then the whole cluster is restarted, one node after the other.
    let in_use = node_in_use(&cluster).await;
    for turn in 0..cluster.nodes.len() {
        let node = &cluster.nodes[(in_use + turn) % cluster.nodes.len()];
        node.lame_duck();
        eventually(SOON, "natsway has left the node", async || {
            node.is_left().await
        })
        .await;
        load.flows(100, SOON).await;
        node.restart().await;
        cluster.is_formed().await;
        load.flows(100, SOON).await;
    }
    load.assert_offered();
    let history = load.finish().await;
    assert_eq!(
        history.count(Promise::Never) + history.count(Promise::Open),
        0,
        "no request failed"
    );
}

const MESSAGES: [(&str, &str); 1] = [("link", "messages-0")];

/// Publishes more than the sockets on the way to a server hold, and asks something behind it; returns
/// when all of that waits.
async fn ask_much(bridge: &Bridge) -> JoinSet<Answer> {
    let waiting = async |name: &str| {
        bridge.metric_becomes(name, &MESSAGES, |n| n >= 20.0).await;
    };
    let mut asked = JoinSet::new();
    for i in 0..120 {
        let publish = bridge.post(&format!("/v1/publish/late.{i}"));
        asked.spawn(publish.body(vec![b'x'; 256 * 1024]).send());
    }
    waiting("natsway_nats_queue_messages").await;
    for _ in 0..20 {
        asked.spawn(bridge.post("/v1/request/asked").body("?").send());
    }
    waiting("natsway_nats_replies_pending").await;
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_to_a_node_that_left_goes_to_the_next_one() {
    let cluster = Cluster::start().await;
    // On both, since a node learns a moment later what another one subscribes to.
    respond(&cluster.nodes[1], "asked", "here").await;
    respond(&cluster.nodes[2], "asked", "here").await;
    let proxy = Proxy::to(&cluster.nodes[0].host_port()).await;
    let mut bridges = Vec::new();
    for when_disconnected in ["fail", "wait"] {
        let verb = format!("{{ when_disconnected: {when_disconnected}, timeout: 25s }}");
        let yaml = format!(
            "nats: {{ ping_interval: 60s, buffer: {{ bytes: 64MiB }} }}\n\
             api: {{ publish: {verb}, request: {verb} }}"
        );
        let bridge = Bridge::builder().servers(&proxy.url()).yaml(&yaml);
        bridges.push(bridge.start().await);
    }
    proxy.stall_requests();
    let mut asked = Vec::new();
    for bridge in &bridges {
        asked.push(ask_much(bridge).await);
    }
    cluster.nodes[0].lame_duck();
    for bridge in &bridges {
        let name = "natsway_nats_connects_total";
        bridge.metric_becomes(name, &MESSAGES, |n| n >= 2.0).await;
    }
    proxy.cut();
    for asked in asked {
        let (done, failed): (Vec<_>, Vec<_>) = asked
            .join_all()
            .await
            .into_iter()
            .partition(|answer| answer.status.is_success());
        for answer in failed {
            let problem = answer.problem();
            assert_eq!(problem["outcome"], "unknown", "{problem}");
        }
        assert!(done.len() >= 40, "{} of those that waited", done.len());
    }
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
    load.assert_offered();
    load.finish().await;
}

/// The node that a link was last connected to.
async fn node_of(bridge: &Bridge, link: &str) -> String {
    let connects = [("link", link)];
    let connects = bridge.metric("natsway_nats_connects_total", &connects);
    let connects = connects.await as usize;
    // A connect is counted before it is logged.
    eventually_some(SOON, "the log names the node", async || {
        let mut connected = bridge.log();
        connected.retain(|line| {
            let text = line.to_string();
            text.contains("\"connected to NATS\"") && text.contains(&format!("\"{link}\""))
        });
        let last = connected.last().filter(|_| connected.len() >= connects)?;
        let server = last["server"]
            .as_str()
            .or(last["fields"]["server"].as_str());
        Some(server.expect("the server is named").to_owned())
    })
    .await
}

/// Whether its messages and subscriptions go over different nodes.
async fn is_on_two_nodes(bridge: &Bridge) -> bool {
    node_of(bridge, "messages-0").await != node_of(bridge, "subscriptions").await
}

/// A natsway whose messages and subscriptions go over different nodes.
async fn bridge_on_two_nodes(cluster: &Cluster) -> Bridge {
    for _ in 0..40 {
        let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
        bridge.is_connected().await;
        if is_on_two_nodes(&bridge).await {
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
    cluster.node(&node_of(&bridge, "messages-0").await).kill9();
    let link = [("link", "messages-0")];
    bridge
        .metric_becomes("natsway_nats_connects_total", &link, |count| count >= 2.0)
        .await;
    bridge.is_connected().await;
    let publish = bridge.post("/v1/publish/moved?timeout=5s").body("after");
    publish.send().await.expect(204);
    let (mut told, mut seen) = (!is_on_two_nodes(&bridge).await, false);
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
    for i in 0..soak(150, 1000) {
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
