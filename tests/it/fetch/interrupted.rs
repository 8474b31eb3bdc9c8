//! A fetch that waits while something else happens.

use serde_json::json;

use super::{FETCH, fetch, messages, server};
use crate::harness::{Answer, Bridge, Nats, SOON, eventually};

/// Starts a fetch that waits at the server, and does something meanwhile.
async fn interrupted(nats: &Nats, bridge: &Bridge, interrupt: impl AsyncFnOnce()) -> Answer {
    let client = bridge.client();
    let waiting = tokio::spawn(async move {
        let request = client.post(&format!("{FETCH}?max=10&wait=55s"));
        request.send().await
    });
    eventually(SOON, "the fetch waits at the server", async || {
        nats.consumer_info("S", "c").await["num_waiting"] == 1
    })
    .await;
    interrupt().await;
    waiting.await.expect("no panic")
}

#[tokio::test]
async fn a_consumer_deleted_meanwhile_is_404_at_once() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let answer = interrupted(&nats, &bridge, async || {
        nats.js("CONSUMER.DELETE.S.c", &json!({})).await;
    })
    .await;
    // The bound is the client's: shorter than the wait.
    answer.expect_problem(404, "consumer-not-found");
}

#[tokio::test]
async fn a_stream_deleted_meanwhile_is_404_at_once() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let answer = interrupted(&nats, &bridge, async || {
        nats.js("STREAM.DELETE.S", &json!({})).await;
    })
    .await;
    answer.expect_problem(404, "stream-not-found");
}

#[tokio::test]
async fn nats_lost_meanwhile_is_503_at_once() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let answer = interrupted(&nats, &bridge, async || nats.kill9()).await;
    let problem = answer.expect_problem(503, "nats-disconnected");
    assert_eq!(problem["retryable"], true);
}

#[tokio::test]
async fn nats_lost_meanwhile_can_be_waited_for() {
    let nats = server().await;
    let yaml = "api: { jetstream: { when_disconnected: wait } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let answer = interrupted(&nats, &bridge, async || {
        nats.restart().await;
        nats.store("s.a", "after").await;
    })
    .await;
    assert_eq!(messages(answer)[0]["data"], "after");
}

#[tokio::test]
async fn a_fetch_under_way_is_answered_when_natsway_ends() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "shutdown: { ready_delay: 0s, grace: 20s }").await;
    let answer = interrupted(&nats, &bridge, async || bridge.sigterm()).await;
    assert!(messages(answer).is_empty());
    bridge.wait_exit(SOON).await;
}

#[tokio::test]
async fn what_comes_for_a_client_that_went_away_is_given_back() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = bridge.client();
    let waiting = tokio::spawn(async move {
        let request = client.post(&format!("{FETCH}?max=10&wait=55s"));
        request.send().await
    });
    eventually(SOON, "the fetch waits at the server", async || {
        nats.consumer_info("S", "c").await["num_waiting"] == 1
    })
    .await;
    waiting.abort();
    assert!(waiting.await.is_err());
    // The pull is still there and takes the message; natsway gives it back.
    nats.store("s.a", "x").await;
    let fetched = fetch(&bridge, "max=10&wait=25s").await;
    assert_eq!(fetched.len(), 1);
    eventually(SOON, "no pull is left behind", async || {
        nats.consumer_info("S", "c").await["num_waiting"] == 0
    })
    .await;
}
