//! How natsway ends: readiness first, then everything in flight, then streams with a reason.

mod under_load;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, Responder, SOON, eventually, round_trip, within};

const PUBLISH: &str = "POST /v1/publish/a HTTP/1.1\r\nHost: localhost";

/// Waits until nobody can connect any more.
async fn refuses(address: &str) {
    eventually(SOON, "new connections are refused", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
}

/// A responder that has got its request, and has not answered it.
async fn held(nats: &Nats, bridge: &Bridge, timeout: &str) -> Held {
    let client = nats.client().await;
    let mut requests = client.subscribe("slow").await.unwrap();
    round_trip(&client).await;
    let path = format!("/v1/request/slow?timeout={timeout}");
    let request = bridge.post(&path);
    let answer = tokio::spawn(async move { request.send().await });
    let message = within(SOON, "the request", requests.next()).await.unwrap();
    Held {
        client,
        reply: message.reply.unwrap(),
        answer,
    }
}

struct Held {
    client: async_nats::Client,
    reply: async_nats::Subject,
    answer: tokio::task::JoinHandle<crate::harness::Answer>,
}

#[tokio::test]
async fn readiness_turns_first_and_requests_are_served_until_the_delay_is_over() {
    let nats = Nats::start().await;
    let yaml = "shutdown: { ready_delay: 3s, grace: 20s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut stream = bridge.sse("/v1/subscribe/a").await;
    bridge.sigterm();
    eventually(SOON, "readiness turns", async || {
        bridge.admin_get("/readyz").await.0 == 503
    })
    .await;
    assert_eq!(bridge.admin_get("/livez").await.0, 200);
    // A new connection, a new request, and the open stream sees its message.
    let mut raw = bridge.raw().await;
    let answer = raw.request(PUBLISH, b"7").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(stream.event().await.unwrap().json()["data"], 7);
    // Then it ends, with a reason.
    let last = stream.event().await.unwrap();
    assert_eq!(last.event.as_deref(), Some("end"));
    assert_eq!(last.json()["reason"], "draining");
    assert!(stream.chunk().await.is_none());
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn a_request_in_flight_gets_its_own_answer() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 30s }").await;
    let held = held(&nats, &bridge, "30s").await;
    bridge.sigterm();
    refuses(bridge.address()).await;
    held.client
        .publish(held.reply, "late".into())
        .await
        .unwrap();
    round_trip(&held.client).await;
    let answer = held.answer.await.unwrap().expect(200);
    assert_eq!(answer.text(), "late");
    assert!(bridge.wait_exit(SOON).await.success());
    bridge.logs("everything in flight was answered").await;
}

#[tokio::test]
async fn a_message_whose_body_is_not_there_in_time_is_not_sent() {
    let nats = Nats::start().await;
    let yaml = "shutdown: { grace: 2s }\napi: { publish: { timeout_max: 60s } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut raw = bridge.raw().await;
    let head =
        "POST /v1/publish/a?timeout=60s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    raw.send(head).await;
    raw.send("half").await;
    let in_flight = [("route", "publish")];
    bridge
        .metric_becomes("natsway_http_requests_in_flight", &in_flight, |n| n > 0.5)
        .await;
    bridge.sigterm();
    let answer = raw.response().await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &problem["code"]),
        (503, &serde_json::json!("shutting-down"))
    );
    assert_eq!(problem["outcome"], "not_sent", "{problem}");
}

#[tokio::test]
async fn what_nobody_answers_is_answered_before_grace_is_over() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 3s }").await;
    let held = held(&nats, &bridge, "60s").await;
    let start = Instant::now();
    bridge.sigterm();
    let problem = held
        .answer
        .await
        .unwrap()
        .expect_problem(503, "shutting-down");
    assert_eq!(problem["outcome"], "unknown");
    assert!(bridge.wait_exit(SOON).await.success());
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    bridge.logs("the grace period ran out").await;
}

#[tokio::test]
async fn who_waits_for_a_place_at_the_end_was_not_sent() {
    let nats = Nats::start().await;
    let yaml = "shutdown: { grace: 3s }\napi: { request: { concurrency: { limit: 1, queue: 1 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let held = held(&nats, &bridge, "60s").await;
    let waiting = tokio::spawn(bridge.post("/v1/request/slow?timeout=60s").send());
    let route = [("route", "request")];
    bridge
        .metric_becomes("natsway_http_requests_waiting", &route, |n| n > 0.5)
        .await;
    bridge.sigterm();
    for (answer, outcome, retryable) in
        [(held.answer, "unknown", false), (waiting, "not_sent", true)]
    {
        let problem = answer.await.unwrap().expect_problem(503, "shutting-down");
        assert_eq!(problem["outcome"], outcome);
        assert_eq!(problem["retryable"], retryable);
    }
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn what_would_be_stored_once_may_be_sent_again_after_the_end() {
    let nats = Nats::start().await;
    // Somebody who listens, and does not answer.
    let mut slow = Responder::start(&nats, "slow").await;
    nats.stream("S", &["slow"], json!({"no_ack": true})).await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 3s }").await;
    let path = "/v1/publish/slow?confirm=stream&timeout=25s";
    let once = bridge.post(path).header("idempotency-key", "k");
    let (once, twice) = (once.send(), bridge.post(path).send());
    let (once, twice) = (tokio::spawn(once), tokio::spawn(twice));
    let _held = (slow.next().await, slow.next().await);
    bridge.sigterm();
    for (answer, retryable) in [(once, true), (twice, false)] {
        let problem = answer.await.unwrap().expect_problem(503, "shutting-down");
        assert_eq!(problem["outcome"], "unknown");
        assert_eq!(problem["retryable"], retryable);
    }
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { ready_delay: 200s, grace: 200s }").await;
    let held = held(&nats, &bridge, "60s").await;
    bridge.sigterm();
    bridge.logs("shutting down").await;
    bridge.signal(libc::SIGINT);
    assert_eq!(bridge.wait_exit(SOON).await.code(), Some(1));
    held.answer.abort();
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 120s }").await;
    let mut idle = bridge.raw().await;
    assert_eq!(idle.request(PUBLISH, b"1").await.status, 204);
    let silent = bridge.raw().await;
    bridge.sigterm();
    assert!(bridge.wait_exit(SOON).await.success());
    assert!(idle.until_closed().await.is_empty());
    drop(silent);
}

/// A user like any other, one that can ask the server for no confirmation, and one that counts.
const USERS: &str = r#"
authorization { users = [
  { user: ordinary, password: pw }
  { user: noinbox, password: pw, permissions: { publish: { allow: ["yes.>"] }, subscribe: { allow: ["yes.>"] } } }
  { user: readonly, password: pw, permissions: { publish: { deny: ["_INBOX_natsway.>"] } } }
  { user: witness, password: pw }
] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_begins_http2_while_it_drains_is_told_to_go() {
    const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 25s }").await;
    let held = held(&nats, &bridge, "20s").await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(TcpStream::connect(bridge.address()).await.unwrap());
    }
    bridge.sigterm();
    refuses(bridge.address()).await;
    for mut socket in sockets {
        // It may have been closed by now.
        let _ = socket.write_all(BEGIN).await;
        within(SOON, "GOAWAY", until_goaway(&mut socket)).await;
    }
    held.client
        .publish(held.reply, "late".into())
        .await
        .unwrap();
    assert_eq!(held.answer.await.unwrap().text(), "late");
    assert!(bridge.wait_exit(SOON).await.success());
}

/// Reads frames of HTTP/2 until the server has no more to say, or says that it goes.
async fn until_goaway(socket: &mut TcpStream) {
    const GOAWAY: u8 = 7;
    let mut head = [0; 9];
    while socket.read_exact(&mut head).await.is_ok() && head[3] != GOAWAY {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        socket
            .read_exact(&mut payload)
            .await
            .expect("a whole frame");
    }
}

#[tokio::test]
async fn what_was_taken_over_still_leaves() {
    const COUNT: usize = 5000;
    let nats = Nats::builder().config(USERS).start().await;
    let witness = nats.client_as("witness", "pw").await;
    for user in ["ordinary", "noinbox", "readonly"] {
        let mut seen = witness.subscribe("yes.>").await.unwrap();
        round_trip(&witness).await;
        let yaml =
            format!("nats: {{ auth: {{ user: {user}, password: pw }}, ping_interval: 60s }}");
        let bridge = Bridge::start(&nats, &yaml).await;
        // The server stands still, so all of them wait in natsway or in its socket.
        nats.pause().await;
        let mut clients = JoinSet::new();
        for _ in 0..20 {
            let mut raw = bridge.raw().await;
            clients.spawn(async move {
                let head = "POST /v1/publish/yes.a?confirm=none HTTP/1.1\r\nHost: localhost";
                for _ in 0..COUNT / 20 {
                    assert_eq!(raw.request(head, &[b'x'; 4096]).await.status, 202);
                }
            });
        }
        clients.join_all().await;
        bridge.sigterm();
        bridge.logs("shutting down").await;
        nats.resume();
        for got in 0..COUNT {
            let message = tokio::time::timeout(SOON, seen.next()).await;
            assert!(message.is_ok(), "{user}: {got} of {COUNT} arrived");
        }
        assert!(bridge.wait_exit(SOON).await.success());
    }
}

/// Publishes one message after the other on one connection, until natsway says it closes it.
async fn publish_until_close(mut raw: Connection) -> usize {
    let mut answered = 0;
    loop {
        let answer = raw.request(PUBLISH, b"x").await;
        assert_eq!(answer.status, 204, "{answer:?}");
        answered += 1;
        if answer.header("connection") == Some("close") {
            return answered;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_connections_lose_no_request() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut busy = JoinSet::new();
    for _ in 0..16 {
        busy.spawn(publish_until_close(bridge.raw().await));
    }
    eventually(SOON, "requests are answered", async || {
        let (_, metrics) = bridge.admin_get("/metrics").await;
        metrics.contains("natsway_http_request_duration_seconds_count{route=\"publish\"")
    })
    .await;
    bridge.sigterm();
    while let Some(answered) = within(SOON, "a client is done", busy.join_next()).await {
        assert!(answered.unwrap() > 0);
    }
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn sockets_end_with_the_code_for_it() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut raw = bridge.ws("/v1/subscribe/a?format=raw").await;
    bridge.sigterm();
    let (code, _) = raw.closed().await.unwrap();
    assert_eq!(code, 1001);
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn it_ends_while_nats_is_away() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 10s }").await;
    nats.pause().await;
    bridge.sigterm();
    assert!(bridge.wait_exit(SOON).await.success());
}
