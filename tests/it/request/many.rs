//! Many replies to one request.

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::service;
use crate::harness::{Bridge, Nats, SOON, eventually, round_trip};

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
async fn without_room_for_the_first_there_is_no_answer() {
    let nats = Nats::builder().config("max_payload: 4MB").start().await;
    // Each control character is six bytes of JSON: of one there is no room for that, the other finds none
    // where it is delivered, and the third alone is more than an array.
    for (subject, length) in [
        ("grows", 300_000),
        ("large", 1_100_000),
        ("array", 1_500_000),
    ] {
        let reply = (HeaderMap::new(), vec![1; length]);
        service(&nats, subject, vec![reply]).await;
    }
    let ask = async |bridge: &Bridge, subject: &str, accept: &str| {
        let path = format!("/v1/request/{subject}?max_replies=5&timeout=20s");
        bridge.post(&path).header("accept", accept).send().await
    };
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    for subject in ["grows", "large"] {
        for accept in ["application/x-ndjson", "application/json"] {
            let answer = ask(&bridge, subject, accept).await;
            let problem = answer.expect_problem(503, "overloaded");
            assert_eq!(problem["outcome"], "unknown", "{subject} {accept}");
        }
    }
    let roomy = Bridge::start(&nats, "").await;
    let answer = ask(&roomy, "array", "application/json").await;
    let problem = answer.expect_problem(502, "bad-reply");
    assert_eq!(problem["limit"], 8 * 1024 * 1024);
    let held = "natsway_http_bodies_held_bytes";
    roomy.metric_becomes(held, &[], |held| held < 0.5).await;
}

#[tokio::test]
async fn they_are_envelopes_with_the_subject_that_was_asked() {
    let nats = Nats::start().await;
    let mut headers = HeaderMap::new();
    for (name, value) in [("Node", "n1"), ("A", "1"), ("Zone", "z"), ("Order-Id", "7")] {
        headers.insert(name, value);
    }
    let plain = (HeaderMap::new(), b"text".to_vec());
    service(
        &nats,
        "stock.7",
        vec![(headers, b"{\"left\":3}".to_vec()), plain],
    )
    .await;
    let bridge = Bridge::start(&nats, "").await;
    let path = "/v1/request/stock.7?max_replies=2&timeout=20s";
    let first = concat!(
        r#"{"subject":"stock.7","headers":{"A":["1"],"Node":["n1"],"Order-Id":["7"],"Zone":["z"]},"#,
        r#""encoding":"json","data":{"left":3}}"#,
    );
    let second = r#"{"subject":"stock.7","encoding":"text","data":"text"}"#;
    let array = bridge.post(path).send().await.expect(200);
    assert_eq!(array.text(), format!("[{first},{second}]"));
    let lines = bridge.post(path).header("accept", "application/x-ndjson");
    let lines = lines.stream().await.expect_ok().rest().await;
    let end = r#"{"notice":"end","reason":"count"}"#;
    assert_eq!(lines, format!("{first}\n{second}\n{end}\n"));
    let unwanted = bridge
        .post(path)
        .header("accept", "application/x-ndjson;q=0");
    let unwanted = unwanted.send().await.expect(200);
    assert_eq!(unwanted.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_reader_that_stands_still_is_held_a_bounded_part_for() {
    // The answers are 100 MB at once: more than the server would keep for a connection that is busy.
    let nats = Nats::builder().config("max_pending: 512MB").start().await;
    // Both answers go over one connection, so whoever has the second was sent all of the first.
    let responder = nats.client().await;
    let mut requests = responder.subscribe("*").await.unwrap();
    round_trip(&responder).await;
    tokio::spawn(async move {
        let large = bytes::Bytes::from("x".repeat(100_000));
        while let Some(request) = requests.next().await {
            let count = if &*request.subject == "large" {
                1000
            } else {
                1
            };
            let reply = request.reply.unwrap();
            for _ in 0..count {
                let sent = responder.publish(reply.clone(), large.clone());
                sent.await.unwrap();
            }
        }
    });
    let bridge = Bridge::start(&nats, "").await;
    let mut raw = bridge.raw().await;
    raw.send(
        "POST /v1/request/large?max_replies=1000&timeout=30s HTTP/1.1\r\nHost: localhost\r\n\
         Accept: application/x-ndjson\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let held = "natsway_http_bodies_held_bytes";
    bridge
        .metric_becomes(held, &[], |held| held > 8_200_000.0)
        .await;
    let after = bridge.post("/v1/request/after?timeout=20s").send();
    after.await.expect(200);
    assert!(bridge.metric(held, &[]).await < 9_000_000.0);
    let answer = raw.response().await.unwrap();
    let mut lines = answer.body.split(|byte| *byte == b'\n').rev();
    assert_eq!(lines.next(), Some(&b""[..]));
    let last: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
    assert_eq!(last, json!({"notice": "end", "reason": "slow-client"}));
    let first: Value = serde_json::from_slice(lines.next_back().unwrap()).unwrap();
    assert_eq!(first["subject"], "large");
    bridge.metric_becomes(held, &[], |held| held < 0.5).await;
}

#[tokio::test]
async fn a_streamed_one_keeps_its_place_until_its_end() {
    let nats = Nats::start().await;
    service(&nats, "one", replies(&["1"])).await;
    let yaml = "api: { request: { concurrency: { limit: 1, queue: 0 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let first = bridge.post("/v1/request/one?gap=20s&timeout=20s");
    let first = first.header("accept", "application/x-ndjson");
    let mut first = first.stream().await.expect_ok();
    assert_eq!(first.json_line().await.unwrap()["data"], 1);
    let second = async || bridge.post("/v1/request/one").send().await;
    second().await.expect_problem(503, "overloaded");
    drop(first);
    eventually(SOON, "the place is free", async || {
        second().await.status == 200
    })
    .await;
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
