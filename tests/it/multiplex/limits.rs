//! What the operations of a WebSocket share with the endpoints for one message, and what they may hold.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{open, refused, subscribe};
use crate::harness::faults::Proxy;
use crate::harness::{Bridge, Nats, Responder, SOON, eventually, respond, round_trip, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_may_be_as_large_as_a_body() {
    let nats = Nats::start().await;
    let yaml = "api: { publish: { body_limit: 10 }, request: { body_limit: 10 } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut ws = open(&bridge).await;
    for op in ["publish", "request"] {
        ws.send(&json!({"op": op, "id": "x", "subject": "a", "data": "x".repeat(11)}))
            .await;
        let problem = refused(&mut ws, Some("x"), 413, "payload-too-large").await;
        assert_eq!(problem["limit"], 10);
    }
    ws.send(&json!({"op": "publish", "id": "x", "subject": "a", "data": "x".repeat(10)}))
        .await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": "x"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_one_whichever_way_messages_come() {
    let nats = Nats::start().await;
    let yaml = "api: { publish: { rate: { limit: 1/h, burst: 2, key: \"header:x-tenant\" } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let headers = [("x-tenant", "red")];
    let ws = crate::harness::ws::Ws::connect(bridge.address(), "/v1/ws", &headers).await;
    let mut ws = ws.unwrap();
    let post = |tenant: &'static str| {
        let request = bridge.post("/v1/publish/a").header("x-tenant", tenant);
        request.body("x").send()
    };
    post("red").await.expect(204);
    ws.send(&json!({"op": "publish", "id": 1, "subject": "a"}))
        .await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": 1}));
    ws.send(&json!({"op": "publish", "subject": "a"})).await;
    let problem = refused(&mut ws, None, 429, "rate-limited").await;
    assert_eq!(problem["outcome"], "not_sent");
    post("red").await.expect_problem(429, "rate-limited");
    post("blue").await.expect(204);
    let labels = [("route", "ws"), ("code", "rate-limited")];
    let counted = bridge.metric("natsway_http_problems_total", &labels).await;
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_the_same_whichever_way_requests_come() {
    let nats = Nats::start().await;
    let yaml = "api: { request: { concurrency: { limit: 1, queue: 1 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let service = nats.client().await;
    let mut requests = service.subscribe("slow").await.unwrap();
    round_trip(&service).await;
    let first = bridge.post("/v1/request/slow?timeout=20s");
    let first = tokio::spawn(first.send());
    let held = within(SOON, "the request", requests.next()).await.unwrap();
    let mut ws = open(&bridge).await;
    let ask = |id: u32| json!({"op": "request", "id": id, "subject": "slow", "timeout": "20s"});
    ws.send(&ask(1)).await;
    let waiting = [("route", "request")];
    bridge
        .metric_becomes("natsway_http_requests_waiting", &waiting, |n| n > 0.5)
        .await;
    bridge
        .post("/v1/request/slow")
        .send()
        .await
        .expect_problem(503, "overloaded");
    service
        .publish(held.reply.unwrap(), "1".into())
        .await
        .unwrap();
    first.await.unwrap().expect(200);
    let held = within(SOON, "the next", requests.next()).await.unwrap();
    service
        .publish(held.reply.unwrap(), "2".into())
        .await
        .unwrap();
    let reply = ws.next().await;
    assert_eq!((&reply["op"], &reply["data"]), (&json!("reply"), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_a_client_does_not_read_are_paid_for() {
    // Together less than a server holds for a client, and far more than the budget.
    const REQUESTS: usize = 100;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 8MiB }").await;
    respond(&nats, "large", "x".repeat(500_000)).await;
    let mut ws = open(&bridge).await;
    for id in 0..REQUESTS {
        ws.send(&json!({"op": "request", "id": id, "subject": "large", "timeout": "30s"}))
            .await;
    }
    // Refused ones are counted before anybody reads.
    let labels = [("route", "ws"), ("code", "overloaded")];
    bridge
        .metric_becomes("natsway_http_problems_total", &labels, |n| n > 20.0)
        .await;
    let held = bridge.metric("natsway_http_bodies_held_bytes", &[]).await;
    assert!(held <= f64::from(8 << 20), "{held}");
    let (mut replies, mut refusals) = (0, 0);
    for _ in 0..REQUESTS {
        let frame = ws.next().await;
        match frame["op"].as_str() {
            Some("reply") => replies += 1,
            _ => {
                assert_eq!(frame["problem"]["code"], "overloaded", "{frame}");
                assert_eq!(frame["problem"]["outcome"], "unknown", "{frame}");
                refusals += 1;
            }
        }
    }
    assert!(replies > 0 && refusals > 20, "{replies} {refusals}");
    eventually(SOON, "all is given back", async || {
        bridge.metric("natsway_http_bodies_held_bytes", &[]).await < 0.5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_a_client_does_not_read_are_paid_for() {
    const REQUESTS: u64 = 100;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 8MiB }").await;
    let mut failed = async_nats::HeaderMap::new();
    failed.insert("Nats-Service-Error-Code", "409");
    // Not as large as what is paid for where it is delivered; as JSON it is six times as large.
    let payload = vec![1; 60_000];
    crate::request::service(&nats, "large", vec![(failed, payload)]).await;
    let mut ws = open(&bridge).await;
    for id in 0..REQUESTS {
        ws.send(&json!({"op": "request", "id": id, "subject": "large", "timeout": "30s"}))
            .await;
    }
    let labels = [("route", "ws"), ("code", "service-error")];
    bridge
        .metric_becomes("natsway_http_problems_total", &labels, |n| {
            n as u64 == REQUESTS
        })
        .await;
    let (mut whole, mut without) = (0, 0);
    for _ in 0..REQUESTS {
        let problem = ws.next().await["problem"].clone();
        assert_eq!(problem["code"], "service-error", "{problem}");
        match problem["reply"]["data"].as_str() {
            Some(data) => whole += data.len(),
            None => without += 1,
        }
    }
    assert!(whole >= 60_000 && without > 20, "{whole} {without}");
    eventually(SOON, "all is given back", async || {
        bridge.metric("natsway_http_bodies_held_bytes", &[]).await < 0.5
    })
    .await;
}

/// A client's frame without its end: so many bytes of a text that would be a publish.
fn begun_frame(length: u64, come: usize) -> Vec<u8> {
    // Masked with zeros, which leaves it as it is.
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    let head = frame.len();
    frame.extend_from_slice(br#"{"op":"publish","id":1,"subject":"a"}"#);
    frame.resize(head + come, b' ');
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_do_not_end_are_paid_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const WHOLE: usize = 600_000;
    const COME: usize = 500_000;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    let held = "natsway_http_bodies_held_bytes";
    let mut sockets = Vec::new();
    for number in 1..=2_u32 {
        let mut socket = open(&bridge).await.into_socket();
        let begun = begun_frame(WHOLE as u64, COME);
        socket.write_all(&begun).await.unwrap();
        sockets.push(socket);
        let least = f64::from(number) * 490_000.0;
        bridge.metric_becomes(held, &[], |n| n > least).await;
    }
    let mut third = open(&bridge).await.into_socket();
    third
        .write_all(&begun_frame(WHOLE as u64, COME))
        .await
        .unwrap();
    let mut close = [0; 4];
    within(SOON, "a close", third.read_exact(&mut close))
        .await
        .unwrap();
    assert_eq!((close[0], &close[2..]), (0x88, &1013_u16.to_be_bytes()[..]));
    drop(third);
    bridge
        .metric_becomes(
            "natsway_stream_ends_total",
            &[("reason", "overloaded")],
            |ends| ends > 0.5,
        )
        .await;
    drop(sockets.pop());
    bridge.metric_becomes(held, &[], |n| n < 700_000.0).await;
    // The first comes to its end, and nothing of it is held any more.
    let mut first = sockets.remove(0);
    first.write_all(&[b' '; WHOLE - COME]).await.unwrap();
    let mut head = [0; 2];
    within(SOON, "the answer", first.read_exact(&mut head))
        .await
        .unwrap();
    let mut answer = vec![0; usize::from(head[1])];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, br#"{"op":"ok","id":1}"#);
    bridge.metric_becomes(held, &[], |n| n < 0.5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_and_subscriptions_have_limits() {
    let nats = Nats::builder().config("max_payload: 65536").start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = open(&bridge).await;
    for index in 0..256 {
        subscribe(&mut ws, &index.to_string(), &format!("topic.{index}")).await;
    }
    ws.send(&json!({"op": "subscribe", "id": "more", "subject": "a"}))
        .await;
    let problem = refused(&mut ws, Some("more"), 429, "too-many-streams").await;
    assert_eq!(problem["limit"], 256);
    ws.send(&json!({"op": "unsubscribe", "id": "7"})).await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": "7"}));
    subscribe(&mut ws, "more", "a").await;
    // A payload of just the size that NATS takes goes, one more byte does not.
    let full = "x".repeat(65536);
    ws.send(&json!({"op": "publish", "id": "p", "subject": "b", "data": full}))
        .await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": "p"}));
    let over = "x".repeat(65537);
    ws.send(&json!({"op": "publish", "id": "p", "subject": "b", "data": over}))
        .await;
    refused(&mut ws, Some("p"), 413, "payload-too-large").await;
    // A frame that is too large closes the connection.
    ws.send_frame(Message::text("x".repeat(2 * 65536 + 1)))
        .await;
    assert_eq!(ws.closed().await.map(|(code, _)| code), Some(1009));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_missed_who_is_not_read() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 1s }").await;
    let mut slow = Responder::start(&nats, "slow").await;
    let mut ws = open(&bridge).await;
    let mut held = Vec::new();
    for id in 0..256 {
        ws.send(&json!({"op": "request", "id": id, "subject": "slow", "timeout": "60s"}))
            .await;
    }
    while held.len() < 256 {
        held.push(slow.next().await);
    }
    for _ in 0..3 {
        assert!(ws.pinged().await, "the connection ended");
    }
    let answer = async {
        for request in held {
            slow.answer(request, "1").await;
        }
    };
    let read = async {
        for _ in 0..256 {
            assert_eq!(ws.next().await["op"], "reply");
        }
    };
    tokio::join!(answer, read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_much_in_flight_it_reads_no_more() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut slow = Responder::start(&nats, "slow").await;
    let mut ws = open(&bridge).await;
    for id in 0..300 {
        ws.send(&json!({"op": "request", "id": id, "subject": "slow", "timeout": "60s"}))
            .await;
    }
    let mut arrived = VecDeque::new();
    while arrived.len() < 256 {
        arrived.push_back(slow.next().await);
    }
    // The 257th is not read before one is answered.
    let next = tokio::time::timeout(std::time::Duration::from_millis(300), slow.next());
    assert!(
        next.await.is_err(),
        "256 are in flight, and one more arrived"
    );
    for number in 0..300 {
        if number >= 256 {
            arrived.push_back(slow.next().await);
        }
        let request = arrived.pop_front().expect("one that is held");
        slow.answer(request, "1").await;
    }
    let mut ids = Vec::new();
    for _ in 0..300 {
        let frame = ws.next().await;
        assert_eq!(frame["op"], "reply", "{frame}");
        ids.push(frame["id"].as_u64().expect("a number"));
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn publishes_that_wait_for_nats_keep_their_order() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let yaml = "api: { publish: { when_disconnected: wait, timeout: 30s } }";
    let bridge = Bridge::builder().servers(&proxy.url()).yaml(yaml);
    let bridge = bridge.start().await;
    let witness = nats.client().await;
    let mut seen = witness.subscribe("a").await.unwrap();
    round_trip(&witness).await;
    proxy.cut();
    bridge.is_disconnected().await;
    let mut ws = open(&bridge).await;
    for i in 0..100 {
        ws.send(&json!({"op": "publish", "id": i, "subject": "a", "data": i}))
            .await;
    }
    // This comes behind all of them and is answered at once.
    ws.send(&json!({"op": "nothing", "id": "last"})).await;
    assert_eq!(ws.next().await["id"], "last");
    proxy.heal();
    for i in 0..100 {
        let message = within(SOON, "a message", seen.next()).await.unwrap();
        assert_eq!(message.payload, i.to_string().as_bytes());
    }
}
