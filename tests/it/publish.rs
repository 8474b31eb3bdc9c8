//! `POST /v1/publish/{subject}`.

mod headers;
mod outcomes;
mod size;
mod stream;

use futures_util::StreamExt;

use crate::harness::{Bridge, Calm, Nats, SOON, round_trip, within};

#[tokio::test]
async fn a_message_arrives_byte_for_byte_at_every_confirm_level() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s.>"], serde_json::json!({})).await;
    let client = nats.client().await;
    let mut seen = client.subscribe("s.a").await.unwrap();
    round_trip(&client).await;

    let payload = b"\0\r\n\xff binary".to_vec();
    for (query, status) in [
        ("", 204),
        ("?confirm=server", 204),
        ("?confirm=none", 202),
        ("?confirm=stream&timeout=20s", 200),
    ] {
        let path = format!("/v1/publish/s.a{query}");
        let answer = bridge.post(&path).body(payload.clone()).send().await;
        let answer = answer.expect(status);
        assert_eq!(answer.body.is_empty(), status != 200, "{query}");
        let message = within(SOON, "the message", seen.next()).await.unwrap();
        assert_eq!(message.payload, payload, "{query}");
    }
    bridge.post("/v1/publish/s.a").send().await.expect(204);
    let message = within(SOON, "the message", seen.next()).await.unwrap();
    assert!(message.payload.is_empty());
}

#[tokio::test]
async fn messages_to_one_subject_keep_their_order() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "nats: { connections: 3 }").await;
    let client = nats.client().await;
    let mut seen = client.subscribe("order").await.unwrap();
    round_trip(&client).await;
    for number in 0..200 {
        let level = ["none", "server"][number % 2];
        let path = format!("/v1/publish/order?confirm={level}");
        bridge.post(&path).body(number.to_string()).send().await;
    }
    for number in 0..200 {
        let message = within(SOON, "the message", seen.next()).await.unwrap();
        assert_eq!(message.payload, number.to_string());
    }
}

#[tokio::test]
async fn parameters_that_mean_nothing_are_told() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for query in [
        "confirm=maybe",
        "confirm=",
        "confirm=none&confirm=none",
        "timeout=5",
        "timeout=0s",
        "confrim=stream",
        "max_replies=3",
        "expect_stream=S",
        "ttl=5s",
        "confirm=stream&ttl=10ms",
        "confirm=stream&expect_last_seq=x",
        "split=words",
    ] {
        let answer = bridge.post(&format!("/v1/publish/a?{query}")).send().await;
        let problem = answer.expect_problem(400, "invalid-parameter");
        assert_eq!(problem["outcome"], "not_sent", "{query}");
    }
    let answer = bridge.post("/v1/publish/a?timeout=31s").send().await;
    let problem = answer.expect_problem(400, "invalid-parameter");
    assert_eq!(problem["limit"], "30000ms");
    let answer = bridge.post("/v1/publish/a?utm_source=x&_=1").send().await;
    answer.expect(204);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let answer = bridge.get("/v1/publish/a").send().await;
    assert_eq!(answer.header("allow"), Some("POST"));
    answer.expect_problem(405, "method-not-allowed");
    for path in ["/v1/publish/", "/v1/publish/a/b", "/v1/publis/a"] {
        bridge
            .post(path)
            .send()
            .await
            .expect_problem(404, "not-found");
    }
    let answer = bridge
        .post("/v1/publish/a")
        .header("content-encoding", "gzip");
    let answer = answer.body("x").send().await;
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    answer.expect_problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn an_endpoint_can_be_switched_off_and_narrowed() {
    let nats = Nats::start().await;
    let yaml = "api: { request: false, batch: false, publish: { subjects: { allow: [\"a.>\"], deny: [\"a.b\"] } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    bridge
        .post("/v1/request/a.c")
        .send()
        .await
        .expect_problem(404, "not-found");
    bridge.post("/v1/publish/a.c").send().await.expect(204);
    for subject in ["a.b", "b", "$JS.API.INFO", "_INBOX.x"] {
        let answer = bridge.post(&format!("/v1/publish/{subject}")).send().await;
        answer.expect_problem(403, "subject-not-allowed");
    }
    let answer = bridge.post("/v1/publish/a.c?split=lines").send().await;
    answer.expect_problem(400, "invalid-parameter");
    let answer = bridge.post("/v1/publish").send().await;
    answer.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_declared_route_publishes_where_it_says() {
    let nats = Nats::start().await;
    nats.stream("ORDERS", &["orders.>"], serde_json::json!({}))
        .await;
    let bridge = Bridge::start(
        &nats,
        r#"
routes:
  - name: create
    match: { method: POST, path: "/orders/{id}" }
    publish: { subject: "orders.{id}.created", confirm: stream, stream: ORDERS }
    headers: { forward: [X-Tenant], set: { Source: "web-{id}-{query.color}" } }
"#,
    )
    .await;
    let send = || {
        bridge
            .post("/orders/7?color=red")
            .header("x-tenant", "t1")
            .header("idempotency-key", "k")
            .body("{}")
            .send()
    };
    let first = send().await.expect(200).json();
    assert_eq!(
        first,
        serde_json::json!({"stream": "ORDERS", "seq": 1, "duplicate": false})
    );
    assert_eq!(send().await.expect(200).json()["duplicate"], true);
    let stored = nats.stored("ORDERS", 1).await;
    assert_eq!(stored["subject"], "orders.7.created");
    let headers = stream::headers_of(&stored);
    for line in ["X-Tenant: t1", "Source: web-7-red", "Nats-Msg-Id: create:k"] {
        assert!(headers.contains(line), "{line} in {headers}");
    }
    let calm = Calm::before(&nats, &bridge).await;
    let answer = bridge.post("/orders/7?timeout=1s").send().await;
    answer.expect_problem(400, "invalid-parameter");
    for id in ["a.b", "*", "%3E", "a%20b", "%0d%0aPUB%20x%200"] {
        let answer = bridge.post(&format!("/orders/{id}")).send().await;
        answer.expect_problem(400, "invalid-subject");
    }
    calm.holds().await;
}
