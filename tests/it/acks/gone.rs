//! What a token is for may be gone, or NATS.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{KEYS, bridge, path, server, tokens};
use crate::harness::{Bridge, SOON, eventually};

#[tokio::test]
async fn a_consumer_or_stream_that_is_gone_is_404_at_once() {
    let nats = server(3).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 3).await;
    let given = SystemTime::now();
    // Well below the timeout of 60 s, and below the client's own bound.
    let gone = async |token: &str, code: &str| {
        let answer = bridge.post(&path(token, "?timeout=60s")).send().await;
        answer.expect_problem(404, code);
        let body = json!({"acks": [{"token": token}, {"token": token}]});
        let answer = bridge.post("/v1/acks?timeout=60s").json(&body).send().await;
        let results = answer.expect(200).json();
        assert_eq!(results["results"][1]["problem"]["code"], code);
    };
    nats.js("CONSUMER.DELETE.S.c", &json!({})).await;
    gone(&tokens[0], "consumer-not-found").await;
    // Created anew in a later second, it has delivered nothing: it would never confirm.
    eventually(SOON, "the second of the tokens is over", async || {
        SystemTime::now() >= given + Duration::from_secs(1)
    })
    .await;
    nats.consumer("S", "c", json!({})).await;
    gone(&tokens[1], "consumer-not-found").await;
    nats.js("STREAM.DELETE.S", &json!({})).await;
    gone(&tokens[2], "stream-not-found").await;
}

#[tokio::test]
async fn an_ack_without_nats_may_be_sent_again() {
    let nats = server(1).await;
    let bridge = bridge(&nats, KEYS).await;
    let token = tokens(&bridge, 1).await.remove(0);
    // Stopped, not killed: a consumer that forgot what it delivered confirms nothing.
    nats.stop().await;
    bridge.is_disconnected().await;
    let answer = bridge.post(&path(&token, "")).send().await;
    let problem = answer.expect_problem(503, "nats-disconnected");
    assert_eq!(
        (&problem["outcome"], &problem["retryable"]),
        (&json!("not_sent"), &json!(true))
    );
    nats.restart().await;
    bridge.is_connected().await;
    bridge.post(&path(&token, "")).send().await.expect(204);
}
