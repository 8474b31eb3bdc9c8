//! Subjects that would break the protocol, wherever a client can put one.

use serde_json::json;

use crate::harness::{Bridge, Nats};

/// Percent-encoded, with the status and code each must be answered.
const SUBJECTS: &[(&str, u16, &str)] = &[
    ("a%20b", 400, "invalid-subject"),
    ("a%09b", 400, "invalid-subject"),
    ("a%0d%0aPUB%20x%201%0d%0ay", 400, "invalid-subject"),
    ("%0d%0a", 400, "invalid-subject"),
    ("%00", 400, "invalid-subject"),
    ("n.%00a", 400, "invalid-subject"),
    ("a%7f", 400, "invalid-subject"),
    ("a..b", 400, "invalid-subject"),
    (".a", 400, "invalid-subject"),
    ("a.", 400, "invalid-subject"),
    ("%E2%80%A8", 400, "invalid-subject"),
    ("%C3%BC", 400, "invalid-subject"),
    ("%ED%A0%80", 400, "invalid-subject"),
    ("n.%FF%FE", 400, "invalid-subject"),
    ("*", 400, "wildcard-not-allowed"),
    ("%2A", 400, "wildcard-not-allowed"),
    ("%3E", 400, "wildcard-not-allowed"),
    ("a.*.b", 400, "wildcard-not-allowed"),
    ("a.%3E", 400, "wildcard-not-allowed"),
    ("foo.*bar", 400, "wildcard-not-allowed"),
    ("$JS.API.STREAM.DELETE.S", 403, "subject-not-allowed"),
    ("$SYS.REQ.SERVER.PING", 403, "subject-not-allowed"),
    ("$KV.bucket.key", 403, "subject-not-allowed"),
    ("_INBOX.x", 403, "subject-not-allowed"),
    ("_R_.x", 403, "subject-not-allowed"),
];

#[tokio::test]
async fn no_subject_reaches_nats_that_is_not_one() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    let cids = nats.bridge_cids().await;
    let before = nats.monitor("/varz").await["in_msgs"].clone();
    let long = "x".repeat(513);
    let very_long = "x".repeat(5000);
    let too_long = [&*long, &*very_long].map(|text| (text, 414, "subject-too-long"));
    for (subject, status, code) in SUBJECTS.iter().copied().chain(too_long) {
        for path in [
            format!("/v1/publish/{subject}"),
            format!("/v1/publish/{subject}?confirm=none"),
            format!("/v1/publish/{subject}?confirm=stream"),
            format!("/v1/publish/{subject}?split=lines"),
            format!("/v1/request/{subject}"),
        ] {
            let answer = bridge.post(&path).body("x").send().await;
            let problem = answer.expect_problem(status, code);
            assert_eq!(problem["outcome"], "not_sent", "{path}");
            assert_eq!(problem["retryable"], false, "{path}");
        }
    }
    let after = nats.monitor("/varz").await["in_msgs"].clone();
    assert_eq!(before, after, "nothing was sent");
    assert_eq!(nats.bridge_cids().await, cids, "no connection was lost");
    bridge
        .post(&format!("/v1/publish/{}", "x".repeat(512)))
        .send()
        .await
        .expect(204);
    bridge.post("/v1/publish/a%2Fb").send().await.expect(204);
    assert_eq!(nats.bridge_cids().await, cids, "no connection was lost");
    assert_eq!(nats.stream_state("S").await["messages"], 0);
}

#[tokio::test]
async fn no_pattern_is_subscribed_that_is_not_one() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let cids = nats.bridge_cids().await;
    let before = nats.monitor("/varz").await["subscriptions"].clone();
    for (subject, status, code) in SUBJECTS.iter().copied() {
        let (status, code) = match subject {
            // These are patterns, though not subjects.
            "a.*.b" | "a.%3E" => continue,
            "*" | "%2A" | "%3E" => (403, "subject-not-allowed"),
            "foo.*bar" => (400, "invalid-subject"),
            _ => (status, code),
        };
        let path = format!("/v1/subscribe/{subject}");
        for form in ["text/event-stream", "application/x-ndjson"] {
            let answer = bridge.get(&path).header("accept", form).send().await;
            answer.expect_problem(status, code);
        }
    }
    let after = nats.monitor("/varz").await["subscriptions"].clone();
    assert_eq!(before, after, "nothing was subscribed");
    assert_eq!(nats.bridge_cids().await, cids, "no connection was lost");
}
