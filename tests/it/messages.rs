//! `/v1/streams/{stream}/messages/…`: one stored message.

use async_nats::HeaderMap;
use serde_json::json;

use crate::harness::{Bridge, Nats};

#[tokio::test]
async fn a_message_is_read_as_it_was_stored() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("ORDERS", &["orders.>"], json!({})).await;
    let client = nats.client().await;
    let mut headers = HeaderMap::new();
    headers.append("Order-Id", "7");
    headers.append("Order-Id", "8");
    headers.append("Content-Type", "text/plain");
    let payload = bytes::Bytes::from_static(b"\x00\xffraw");
    let stored = client.request_with_headers("orders.eu", headers, payload.clone());
    stored.await.expect("a PubAck");
    nats.store("orders.us", "").await;

    let answer = bridge.get("/v1/streams/ORDERS/messages/1").send().await;
    let answer = answer.expect(200);
    assert_eq!(answer.body, payload);
    let ids: Vec<_> = answer.headers.get_all("natsh-order-id").iter().collect();
    assert_eq!(ids, ["7", "8"]);
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("nats-stream"), Some("ORDERS"));
    assert_eq!(answer.header("nats-sequence"), Some("1"));
    assert_eq!(answer.header("nats-subject"), Some("orders.eu"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let time = answer.header("nats-time-stamp").expect("a time");
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");

    let answer = bridge.get("/v1/streams/ORDERS/messages/2").send().await;
    let answer = answer.expect(200);
    assert!(answer.body.is_empty());
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
}

#[tokio::test]
async fn the_last_message_with_a_subject_is_found() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("ORDERS", &["orders.>"], json!({})).await;
    for (subject, payload) in [("orders.eu", "1"), ("orders.us", "2"), ("orders.eu", "3")] {
        nats.store(subject, payload).await;
    }
    let last = bridge.get("/v1/streams/ORDERS/messages/last");
    let answer = last.query("subject", "orders.eu").send().await.expect(200);
    assert_eq!(
        (answer.text(), answer.header("nats-sequence")),
        ("3", Some("3"))
    );
    let last = bridge.get("/v1/streams/ORDERS/messages/last?subject=orders.jp");
    last.send().await.expect_problem(404, "message-not-found");
    for (query, code) in [
        ("", "invalid-parameter"),
        ("?subject=a&subject=b", "invalid-parameter"),
        ("?subject=orders.*", "wildcard-not-allowed"),
        ("?subject=a%20b", "invalid-subject"),
        ("?subjekt=a", "invalid-parameter"),
    ] {
        let answer = bridge.get(&format!("/v1/streams/ORDERS/messages/last{query}"));
        answer.send().await.expect_problem(400, code);
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("A", &["a"], json!({})).await;
    nats.store("a", "x").await;
    let answer = bridge.get("/v1/streams/A/messages/2").send().await;
    let problem = answer.expect_problem(404, "message-not-found");
    assert_eq!(problem["nats"]["err_code"], 10037);
    let answer = bridge.get("/v1/streams/B/messages/1").send().await;
    answer.expect_problem(404, "stream-not-found");
    for seq in ["0", "-1", "x", "1.5", "18446744073709551616"] {
        let answer = bridge.get(&format!("/v1/streams/A/messages/{seq}"));
        answer.send().await.expect_problem(400, "invalid-parameter");
    }
}

#[tokio::test]
async fn a_message_that_may_not_be_read_is_not_shown() {
    let nats = Nats::start().await;
    let yaml = "api: { jetstream: { subjects: { deny: [a.secret] } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    nats.stream("A", &["a.>"], json!({})).await;
    nats.store("a.secret", "x").await;
    nats.store("a.b", "y").await;
    for path in ["1", "last?subject=a.secret"] {
        let answer = bridge.get(&format!("/v1/streams/A/messages/{path}"));
        answer
            .send()
            .await
            .expect_problem(403, "subject-not-allowed");
    }
    let answer = bridge.get("/v1/streams/A/messages/2").send().await;
    assert_eq!(answer.expect(200).text(), "y");
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_read() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("A", &["a"], json!({})).await;
    let payload = "x".repeat(1024 * 1024);
    nats.store("a", &payload).await;
    let answer = bridge.get("/v1/streams/A/messages/1").send().await;
    assert_eq!(answer.expect(200).text(), payload);
}
