//! Rules that change while natsway is connected.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::bridge_as;
use crate::harness::{Nats, SOON, arrived, eventually, round_trip, within};

/// Users whose rules change while natsway is connected.
fn rules(of_u: &str) -> String {
    format!(
        "authorization {{ users = [ {{ user: u, password: pw, permissions: {{ {of_u} }} }}, \
         {{ user: witness, password: pw }} ] }}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_denials_after_a_change_of_the_rules_confirms_nothing() {
    let nats = Nats::builder().config(&rules("")).start().await;
    let bridge = Arc::new(bridge_as(&nats, "u", "").await);
    let witness = nats.client_as("witness", "pw").await;
    let mut seen = witness.subscribe("later.server.>").await.unwrap();
    round_trip(&witness).await;
    nats.reload(&rules(r#"publish: { deny: ["later.>"] }"#))
        .await;
    let mut publishes = JoinSet::new();
    for i in 0..1000 {
        let bridge = Arc::clone(&bridge);
        publishes.spawn(async move {
            let path = if i % 5 == 0 {
                format!("/v1/publish/later.server.{i}")
            } else {
                format!("/v1/publish/later.none.{i}?confirm=none")
            };
            let status = bridge.post(&path).body("x").send().await.status;
            (i % 5 == 0 && status == 204).then(|| format!("later.server.{i}"))
        });
    }
    let confirmed: HashSet<String> = publishes.join_all().await.into_iter().flatten().collect();
    round_trip(&witness).await;
    let delivered = arrived(&mut seen).await.into_iter();
    let delivered = delivered
        .map(|message| message.subject.to_string())
        .collect();
    let lies: Vec<_> = confirmed.difference(&delivered).collect();
    assert!(lies.is_empty(), "{} confirmed, not delivered", lies.len());
    let denied = bridge.post("/v1/publish/later.no").body("x").send().await;
    denied.expect_problem(403, "nats-permission-denied");
    // Echoes may have been dropped; nobody after them waits for those.
    let begun = Instant::now();
    for _ in 0..20 {
        let publish = bridge.post("/v1/publish/open").body("x").send();
        publish.await.expect(204);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "each waits for the next"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_to_the_inbox_that_is_taken_away_ends_no_link() {
    let nats = Nats::builder().config(&rules("")).start().await;
    let bridge = bridge_as(&nats, "u", "").await;
    let publish = async || bridge.post("/v1/publish/open").body("x").send().await;
    publish().await.expect(204);
    nats.reload(&rules(r#"publish: { deny: ["_INBOX_natsway.>"] }"#))
        .await;
    eventually(SOON, "no confirmation is to be had", async || {
        publish().await.status == 501
    })
    .await;
    let witness = nats.client_as("witness", "pw").await;
    let mut seen = witness.subscribe("open").await.unwrap();
    round_trip(&witness).await;
    let accepted = bridge.post("/v1/publish/open?confirm=none").body("x");
    accepted.send().await.expect(202);
    within(SOON, "the message", seen.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_delivered_is_not_rejected_with_one_that_is_denied() {
    let nats = Nats::builder().config(&rules("")).start().await;
    let bridge = bridge_as(&nats, "u", "").await;
    let responder = nats.client_as("witness", "pw").await;
    let mut requests = responder.subscribe("slow").await.unwrap();
    round_trip(&responder).await;
    let request = bridge.post("/v1/request/slow?timeout=20s");
    let first = tokio::spawn(async move { request.send().await });
    within(SOON, "the request", requests.next()).await.unwrap();
    nats.reload(&rules(r#"publish: { deny: ["slow"] }"#)).await;
    let second = bridge.post("/v1/request/slow?timeout=20s").send().await;
    for answer in [first.await.unwrap(), second] {
        assert_ne!(answer.json()["outcome"], "rejected", "{}", answer.text());
    }
    let third = bridge.post("/v1/request/slow").send().await;
    third.expect_problem(403, "nats-permission-denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_learns_that_its_subscription_is_taken_away() {
    for streams in [20, 400] {
        let nats = Nats::builder().config(&rules("")).start().await;
        let bridge = bridge_as(&nats, "u", "").await;
        let mut denied = Vec::new();
        for i in 0..streams {
            let group = ["", "?queue=g"][i % 2];
            let path = format!("/v1/subscribe/secret.{i}{group}");
            denied.push(bridge.sse(&path).await.expect_ok());
        }
        let mut allowed = bridge.sse("/v1/subscribe/open").await.expect_ok();
        nats.reload(&rules(r#"subscribe: { deny: ["secret.>"] }"#))
            .await;
        for stream in &mut denied {
            let end = loop {
                let event = stream.event().await.expect("a stream ends with a reason");
                if event.event.as_deref() == Some("end") {
                    break event;
                }
            };
            assert_eq!(end.json()["reason"], "permission-denied");
        }
        bridge.is_connected().await;
        let publish = bridge.post("/v1/publish/open").body("x").send();
        publish.await.expect(204);
        while allowed.event().await.expect("it goes on").event.is_some() {}
    }
}
