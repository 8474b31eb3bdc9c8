//! Many replies to one request.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::service;
use crate::harness::{Bridge, Nats};

fn replies(payloads: &[&str]) -> Vec<(HeaderMap, Vec<u8>)> {
    let reply = |payload: &&str| (HeaderMap::new(), payload.as_bytes().to_vec());
    payloads.iter().map(reply).collect()
}

fn data(array: &Value) -> Vec<Value> {
    let envelopes = array.as_array().unwrap().iter();
    envelopes.map(|envelope| envelope["data"].clone()).collect()
}

async fn start() -> (Nats, Bridge) {
    let nats = Nats::start().await;
    service(&nats, "three", replies(&["1", "\"two\"", "x"])).await;
    service(&nats, "ended", replies(&["1", "2", ""])).await;
    service(&nats, "nothing", replies(&[""])).await;
    let bridge = Bridge::start(&nats, "").await;
    (nats, bridge)
}

#[tokio::test]
async fn they_are_an_array_and_its_end_has_a_reason() {
    let (_nats, bridge) = start().await;
    for (path, expected, end) in [
        (
            "three?max_replies=2&timeout=20s",
            json!([1, "two"]),
            "count",
        ),
        (
            "three?max_replies=3&gap=20s&timeout=20s",
            json!([1, "two", "x"]),
            "count",
        ),
        ("three?gap=300ms&timeout=30s", json!([1, "two", "x"]), "gap"),
        (
            "three?max_replies=9&timeout=1s",
            json!([1, "two", "x"]),
            "timeout",
        ),
        ("ended?max_replies=9&timeout=20s", json!([1, 2]), "sentinel"),
        ("nothing?gap=20s&timeout=20s", json!([]), "sentinel"),
    ] {
        let answer = bridge.post(&format!("/v1/request/{path}")).send().await;
        let answer = answer.expect(200);
        assert_eq!(answer.header("natsway-end"), Some(end), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
        assert_eq!(Value::from(data(&answer.json())), expected, "{path}");
    }
}

#[tokio::test]
async fn they_are_streamed_as_they_come() {
    let (_nats, bridge) = start().await;
    for (path, expected, end) in [
        (
            "three?max_replies=2&timeout=20s",
            json!([1, "two"]),
            "count",
        ),
        ("three?gap=300ms&timeout=30s", json!([1, "two", "x"]), "gap"),
        (
            "three?max_replies=9&timeout=1s",
            json!([1, "two", "x"]),
            "timeout",
        ),
        ("ended?gap=20s&timeout=20s", json!([1, 2]), "sentinel"),
    ] {
        let request = bridge.post(&format!("/v1/request/{path}"));
        let request = request.header("accept", "application/x-ndjson");
        let mut opened = request.stream().await.expect_ok();
        assert_eq!(opened.header("content-type"), Some("application/x-ndjson"));
        for one in expected.as_array().unwrap() {
            assert_eq!(opened.json_line().await.unwrap()["data"], *one, "{path}");
        }
        let last = opened.json_line().await.unwrap();
        assert_eq!(last, json!({"notice": "end", "reason": end}), "{path}");
        assert!(opened.json_line().await.is_none(), "{path}");
    }
}

#[tokio::test]
async fn an_array_holds_8_mib() {
    let nats = Nats::start().await;
    let large = "x".repeat(900_000);
    service(&nats, "large", replies(&[large.as_str(); 12])).await;
    let bridge = Bridge::start(&nats, "").await;
    let path = "/v1/request/large?max_replies=12&timeout=30s";
    let answer = bridge.post(path).send().await.expect(200);
    assert_eq!(answer.header("natsway-end"), Some("size"));
    assert_eq!(answer.json().as_array().unwrap().len(), 9);
    assert!(answer.body.len() <= 8 * 1024 * 1024);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (_nats, bridge) = start().await;
    for query in [
        "max_replies=1",
        "max_replies=1001",
        "max_replies=x",
        "gap=0s",
        "gap=1",
    ] {
        let answer = bridge
            .post(&format!("/v1/request/three?{query}"))
            .send()
            .await;
        answer.expect_problem(400, "invalid-parameter");
    }
    let answer = bridge
        .post("/v1/request/three?max_replies=1001")
        .send()
        .await;
    assert_eq!(answer.problem()["limit"], 1000);
}
