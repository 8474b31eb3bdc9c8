//! The layers, end to end: what is refused never reaches NATS, and what is limited heals.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use crate::harness::ws::Ws;
use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, within};

/// Nothing but the last message, published beside natsway, arrives.
async fn sees_only(messages: &mut async_nats::Subscriber, client: &async_nats::Client, last: &str) {
    client
        .publish("seen", last.to_owned().into())
        .await
        .unwrap();
    round_trip(client).await;
    let message = within(SOON, "a message", messages.next()).await.unwrap();
    assert_eq!(message.payload, last);
}

#[tokio::test]
async fn a_foreign_page_publishes_nothing_and_a_listed_one_does() {
    let nats = Nats::start().await;
    let yaml = "cors: { origins: [\"https://app.example\"] }";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    let mut messages = client.subscribe("seen").await.unwrap();
    round_trip(&client).await;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "https://app.example.evil"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        // As a form or a `fetch` without preflight sends it.
        let request = bridge.post("/v1/publish/seen").header(name, value);
        let request = request.header("content-type", "text/plain").body("forged");
        let problem = request
            .send()
            .await
            .expect_problem(403, "origin-not-allowed");
        assert_eq!(problem["outcome"], "not_sent");
    }
    sees_only(&mut messages, &client, "first").await;
    let request = bridge
        .post("/v1/publish/seen")
        .header("origin", "https://app.example");
    let answer = request.body("listed").send().await.expect(204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let message = within(SOON, "a message", messages.next()).await.unwrap();
    assert_eq!(message.payload, "listed");
}

#[tokio::test]
async fn a_rebound_name_publishes_nothing() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(
        &nats,
        "listen: { data: [\"127.0.0.1:0\"], admin: \"127.0.0.1:0\", hosts: [gate.example] }",
    )
    .await;
    let client = nats.client().await;
    let mut messages = client.subscribe("seen").await.unwrap();
    round_trip(&client).await;
    for host in [
        "evil.com",
        "localhost.evil.com",
        "127.0.0.1.nip.io",
        "10.0.0.1",
    ] {
        let head = format!("POST /v1/publish/seen HTTP/1.1\r\nHost: {host}");
        let answer = bridge.raw().await.request(&head, b"forged").await;
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (421, Some("host-not-allowed"))
        );
    }
    let absolute = "POST http://evil.com/v1/publish/seen HTTP/1.1\r\nHost: localhost";
    assert_eq!(
        bridge.raw().await.request(absolute, b"forged").await.status,
        421
    );
    let missing = "POST /v1/publish/seen HTTP/1.1";
    assert_eq!(
        bridge.raw().await.request(missing, b"forged").await.status,
        421
    );
    sees_only(&mut messages, &client, "first").await;
    for host in ["localhost", "127.0.0.1:1", "[::1]", "GATE.example:80"] {
        let head = format!("POST /v1/publish/seen HTTP/1.1\r\nHost: {host}");
        assert_eq!(
            bridge.raw().await.request(&head, b"x").await.status,
            204,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_websocket_is_opened_for_listed_origins_only() {
    let nats = Nats::start().await;
    let yaml = "cors: { origins: [\"https://app.example\"] }";
    let bridge = Bridge::start(&nats, yaml).await;
    let open = async |origin: &str| {
        let headers = [("origin", origin)];
        Ws::connect(bridge.address(), "/v1/subscribe/a", &headers).await
    };
    assert!(open("https://app.example").await.is_ok());
    for origin in ["https://evil.example", "null"] {
        let refused = open(origin).await.err().unwrap().to_string();
        assert!(refused.contains("403"), "{origin}: {refused}");
    }
}

#[tokio::test]
async fn a_full_route_sheds_before_the_body_and_other_routes_are_untouched() {
    let nats = Nats::start().await;
    let yaml = "
routes:
  - name: slow
    match: { method: POST, path: /slow }
    request: { subject: slow }
    timeout: 25s
    concurrency: { limit: 1, queue: 0 }
";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    let mut requests = client.subscribe("slow").await.unwrap();
    round_trip(&client).await;
    let first = bridge.post("/slow");
    let first = tokio::spawn(async move { first.send().await });
    let request = within(SOON, "the request", requests.next()).await.unwrap();
    // A client that asks before it sends is never asked to send.
    let mut raw = bridge.raw().await;
    let head = "POST /slow HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    raw.send(head).await;
    let answer = raw.response().await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (503, Some("overloaded"))
    );
    assert!(answer.header("retry-after").is_some());
    bridge.post("/v1/publish/a").send().await.expect(204);
    client
        .publish(request.reply.unwrap(), "done".into())
        .await
        .unwrap();
    first.await.unwrap().expect(200);
    // The place is free again when a client goes away, too.
    let gone = bridge.post("/slow");
    let gone = tokio::spawn(async move { gone.try_send().await.is_ok() });
    within(SOON, "the request", requests.next()).await.unwrap();
    gone.abort();
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            client
                .publish(request.reply.unwrap(), "done".into())
                .await
                .unwrap();
        }
    });
    eventually(SOON, "the place is free", async || {
        bridge.post("/slow").send().await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_slow_body_is_answered_on_time() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "http: { body_timeout: 1s }").await;
    let mut raw = bridge.raw().await;
    let start = Instant::now();
    let head = "POST /v1/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
    raw.send(head).await;
    raw.send("a few").await;
    let answer = raw.response().await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (408, Some("body-timeout"))
    );
    assert!(start.elapsed() >= Duration::from_millis(950));
    raw.until_closed().await;
}

#[tokio::test]
async fn slow_and_impatient_clients_get_their_own_answer_and_leave_the_breaker_closed() {
    let nats = Nats::start().await;
    let yaml = "
routes:
  - name: open
    match: { method: POST, path: /open }
    publish: { subject: open }
    params: [timeout]
    breaker: { failures: 5, window: 60s, open_for: 60s }
  - name: ask
    match: { method: POST, path: /ask }
    request: { subject: silent }
    params: [timeout]
    breaker: { failures: 5, window: 60s, open_for: 60s }
";
    let bridge = Bridge::start(&nats, yaml).await;
    let silent = nats.client().await;
    let _listening = silent.subscribe("silent").await.unwrap();
    round_trip(&silent).await;
    let mut slow = JoinSet::new();
    for _ in 0..5 {
        let mut raw = bridge.raw().await;
        slow.spawn(async move {
            let start = Instant::now();
            raw.send(
                "POST /open?timeout=500ms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\n",
            )
            .await;
            let dribble = async {
                for _ in 0..30 {
                    raw.send("x").await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            // Whoever is answered early does not read that before it has sent all: half of it is enough.
            let _ = tokio::time::timeout(Duration::from_millis(750), dribble).await;
            let answer = raw.response().await.unwrap();
            (answer.status, answer.code(), start.elapsed())
        });
    }
    while let Some(answer) = slow.join_next().await {
        let (status, code, took) = answer.unwrap();
        assert_eq!((status, code.as_deref()), (408, Some("body-timeout")));
        assert!(took >= Duration::from_millis(450), "{took:?}");
    }
    for _ in 0..5 {
        let hasty = bridge.post("/ask?timeout=500ms").send().await;
        hasty.expect_problem(504, "reply-timeout");
    }
    bridge.post("/open").body("x").send().await.expect(204);
    let hasty = bridge.post("/ask?timeout=500ms").send().await;
    hasty.expect_problem(504, "reply-timeout");
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_still_reads_the_refusal() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let payload = vec![b'x'; 8 << 20];
    let mut raw = bridge.raw().await;
    let answer = raw
        .request("POST /v1/publish/a HTTP/1.1\r\nHost: localhost", &payload)
        .await;
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (413, Some("payload-too-large"))
    );
}

#[tokio::test]
async fn encoded_bodies_are_refused() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for path in ["/v1/publish/a", "/v1/request/a", "/v1/publish"] {
        let request = bridge
            .post(path)
            .header("content-encoding", "gzip")
            .body("x");
        let answer = request.send().await;
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
        answer.expect_problem(415, "unsupported-media-type");
    }
}

#[tokio::test]
async fn answers_are_compressed_for_who_asks_and_streams_never() {
    use std::io::Read as _;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "http: { compression: true }").await;
    let page = async |accept: &str| {
        let page = bridge.get("/v1/openapi.json");
        page.header("accept-encoding", accept).send().await
    };
    let plain = page("identity").await;
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = page("gzip").await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(&gzip.body[..]);
    reader.read_to_string(&mut text).unwrap();
    assert!(text == plain.text() && gzip.body.len() < text.len() / 2);
    let zstd = page("zstd").await;
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    assert_eq!(zstd.body[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    for accept in ["text/event-stream", "application/x-ndjson"] {
        let stream = bridge.get("/v1/subscribe/a").header("accept", accept);
        let stream = stream
            .header("accept-encoding", "gzip, zstd")
            .stream()
            .await;
        assert_eq!(stream.header("content-encoding"), None, "{accept}");
    }
}
