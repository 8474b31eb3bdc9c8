//! Requests and streams that are under way when their route changes or goes.

use serde_json::json;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, Responder, round_trip};

const BEFORE: &str = "
routes:
  - name: slow
    match: { method: POST, path: /slow }
    request: { subject: slow }
    timeout: 25s
  - name: gone
    match: { method: POST, path: /gone }
    request: { subject: gone }
    timeout: 25s
  - name: feed
    match: { path: /feed }
    subscribe: { subjects: [one] }
  - name: gone-feed
    match: { path: /gone-feed }
    subscribe: { subjects: [one] }
";

/// The same names with other subjects, a shorter time, and two routes less; nothing else may publish.
const AFTER: &str = "
api: { publish: { subjects: { allow: [other] } }, subscribe: { subjects: { allow: [other] } } }
routes:
  - name: slow
    match: { method: POST, path: /slow }
    request: { subject: slower }
    timeout: 1ms
  - name: feed
    match: { path: /feed }
    subscribe: { subjects: [two] }
";

/// Sends a request and leaves its answer for later, as the connection is looked at afterwards, too.
/// The first byte of its body is sent along.
async fn begin(bridge: &Bridge, path: &str, length: usize) -> Connection {
    let mut raw = bridge.raw().await;
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nx");
    assert!(raw.send(head).await);
    raw
}

async fn status(raw: &mut Connection, path: &str) -> u16 {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost");
    raw.request(&head, b"").await.status
}

#[tokio::test]
async fn requests_end_as_they_began_and_their_connections_go_on() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, BEFORE).await;
    let (mut slow, mut gone) = (
        Responder::start(&nats, "slow").await,
        Responder::start(&nats, "gone").await,
    );
    let (mut first, mut second) = (
        begin(&bridge, "/slow", 1).await,
        begin(&bridge, "/gone", 1).await,
    );
    // One whose body is still on its way: it came in by the old routes, too.
    let mut third = begin(&bridge, "/gone", 2).await;
    let held = (slow.next().await, gone.next().await);
    let in_flight = [("route", "gone")];
    bridge
        .metric_becomes("natsway_http_requests_in_flight", &in_flight, |n| n > 1.5)
        .await;
    bridge.reload(AFTER).await;
    // The new rules, on new and on old connections, while the old requests wait.
    bridge.post("/gone").send().await.expect(404);
    let refused = bridge.post("/slow").send().await;
    assert!(matches!(refused.status.as_u16(), 503 | 504), "{refused:?}");
    slow.answer(held.0, "done").await;
    gone.answer(held.1, "done").await;
    assert!(third.send("y").await);
    let last = gone.next().await;
    assert_eq!(last.payload, "xy");
    gone.answer(last, "done").await;
    for raw in [&mut first, &mut second, &mut third] {
        let answer = raw.response().await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"done"[..]));
        assert_eq!(answer.header("connection"), None);
        assert_eq!(status(raw, "/gone").await, 404);
        assert_eq!(status(raw, "/v1/publish/one").await, 403);
        assert_eq!(status(raw, "/v1/publish/other").await, 204);
    }
}

#[tokio::test]
async fn streams_of_every_form_go_on_with_what_they_subscribed_to() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, BEFORE).await;
    let mut events = [bridge.sse("/feed").await, bridge.sse("/gone-feed").await];
    let mut lines = bridge.ndjson("/feed").await;
    let mut frames = bridge.ws("/gone-feed").await;
    let mut many = bridge.ws("/v1/ws").await;
    let subscribe =
        |id: u32, subject: &str| json!({"op": "subscribe", "id": id, "subject": subject});
    many.send(&subscribe(1, "one")).await;
    assert_eq!(many.next().await["op"], "ok");
    bridge.reload(AFTER).await;
    bridge.get("/gone-feed").send().await.expect(404);
    let mut new = bridge.sse("/feed").await;
    let client = nats.client().await;
    for subject in ["one", "two"] {
        client.publish(subject, subject.into()).await.unwrap();
    }
    round_trip(&client).await;
    assert_eq!(new.event().await.unwrap().json()["subject"], "two");
    for stream in &mut events {
        assert_eq!(stream.event().await.unwrap().json()["subject"], "one");
    }
    assert_eq!(lines.json_line().await.unwrap()["subject"], "one");
    assert_eq!(frames.next().await["subject"], "one");
    assert_eq!(many.next().await["subject"], "one");
    // A WebSocket is one request: what it begins later still goes by the rules it came in by.
    many.send(&subscribe(2, "two")).await;
    assert_eq!(many.next().await["op"], "ok");
    let mut newer = bridge.ws("/v1/ws").await;
    newer.send(&subscribe(1, "one")).await;
    assert_eq!(newer.next().await["problem"]["code"], "subject-not-allowed");
    let refused = bridge.get("/v1/subscribe/one").send().await;
    refused.expect_problem(403, "subject-not-allowed");
}
