//! What of an HTTP head reaches the message, and what never does.

use futures_util::StreamExt;

use crate::harness::{Bridge, Calm, Nats, SOON, raw_http, round_trip, within};

#[tokio::test]
async fn headers_are_mapped_and_the_rest_stays_behind() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let mut seen = client.subscribe("a").await.unwrap();
    round_trip(&client).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = bridge
        .post("/v1/publish/a")
        .header("content-type", "application/json")
        .header("natsh-order-id", "7")
        .header("ce-type", "order.created")
        .header("traceparent", trace)
        .header("idempotency-key", "k 1".trim_end_matches(" 1"))
        .header("authorization", "Bearer secret")
        .header("cookie", "a=b");
    request.body("{}").send().await.expect(204);
    let message = within(SOON, "the message", seen.next()).await.unwrap();
    let headers = message.headers.unwrap();
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, values)| format!("{name}: {}", values[0].as_str()))
        .collect();
    lines.sort_unstable();
    let traced = format!("traceparent: {trace}");
    assert_eq!(
        lines,
        [
            "Content-Type: application/json",
            "Nats-Msg-Id: k",
            "Order-Id: 7",
            "ce-type: order.created",
            &traced,
        ]
    );
    let request = bridge.post("/v1/publish/a");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body("{}").send().await.expect(204);
    let message = within(SOON, "the message", seen.next()).await.unwrap();
    assert!(message.headers.is_none());
}

/// What the server or a client library of NATS takes for a command.
const STEERING: [&str; 21] = [
    "Nats-Rollup",
    "Nats-Msg-Id",
    "Nats-TTL",
    "Nats-Expected-Stream",
    "Nats-Expected-Last-Sequence",
    "Nats-Expected-Last-Subject-Sequence",
    "Nats-Expected-Last-Msg-Id",
    "Nats-Incr",
    "Nats-Batch-Id",
    "Nats-Batch-Sequence",
    "Nats-Batch-Commit",
    "Nats-Schedule",
    "Nats-Schedule-Target",
    "Nats-Trace-Dest",
    "Nats-Trace-Only",
    "Nats-Required-Api-Level",
    "Nats-Request-Info",
    "Nats-Service-Error-Code",
    "Nats-Unheard-Of",
    "KV-Operation",
    "Status",
];

fn in_any_case(name: &str) -> Vec<String> {
    let turned = |letter: usize| {
        let letters = name
            .chars()
            .enumerate()
            .map(move |(at, c)| match at % 2 == letter {
                true => c.to_ascii_uppercase(),
                false => c.to_ascii_lowercase(),
            });
        letters.collect::<String>()
    };
    vec![
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        turned(0),
        turned(1),
        format!("NatsH-{name}"),
        format!("natsh-{}", name.to_lowercase()),
        format!("NATSH-{}", name.to_uppercase()),
    ]
}

fn is_prefixed(name: &str) -> bool {
    name.to_lowercase().starts_with("natsh-")
}

#[tokio::test]
async fn headers_that_steer_nats_are_refused_in_any_case() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let mut spy = nats.raw().await;
    spy.subscribe("a").await;
    let mut connection = raw_http::Connection::tcp(bridge.address()).await;
    for name in STEERING.iter().flat_map(|name| in_any_case(name)) {
        for path in ["publish/a", "publish/a?split=lines", "request/a"] {
            let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{name}: all\r\n");
            let answer = connection.request(&head, b"").await;
            let refused = (answer.status, answer.code());
            let wanted = (400, Some("header-not-allowed".to_owned()));
            assert_eq!(refused, wanted, "{path} {name}");
        }
        let (_, own) = name.split_at(if is_prefixed(&name) { 6 } else { 0 });
        let line = serde_json::json!({"subject": "a", "headers": {own: "all"}});
        let request = bridge.post("/v1/publish").body(line.to_string());
        let request = request.header("content-type", "application/x-ndjson");
        let problem = request.send().await.expect_problem(422, "batch-incomplete");
        assert_eq!(problem["failed"][0]["code"], "header-not-allowed", "{own}");
    }
    let answer = bridge
        .post("/v1/publish/a")
        .header("nats-ttl", "5s")
        .send()
        .await;
    let problem = answer.expect_problem(400, "header-not-allowed");
    assert!(
        problem["detail"].as_str().unwrap().contains("`ttl`"),
        "{problem}"
    );
    assert_eq!(spy.drain().await, [], "nothing was sent");
    calm.holds().await;
}

#[tokio::test]
async fn control_characters_never_reach_nats() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let mut spy = nats.raw().await;
    spy.subscribe("a").await;
    for value in [
        "a\r\nNats-Rollup: all",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\x01b",
        "a\x7fb",
    ] {
        // One that is copied as it is, and one that natsway makes another of.
        for name in ["NatsH-X", "Idempotency-Key", "Content-Type", "traceparent"] {
            for path in ["publish/a", "publish/a?split=lines", "request/a"] {
                let mut connection = raw_http::Connection::tcp(bridge.address()).await;
                let head =
                    format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n");
                let answer = connection.request(&head, b"x").await;
                assert_eq!(answer.status, 400, "{path} {name}: {value:?}");
            }
        }
    }
    assert_eq!(spy.drain().await, [], "nothing was sent");
    // Bytes beyond ASCII are text where they are UTF-8, and refused where they are not.
    for (value, status) in [
        (&b"caf\xc3\xa9"[..], 204),
        (b"caf\xe9", 400),
        (b"\xc2\x85", 400),
    ] {
        let mut connection = raw_http::Connection::tcp(bridge.address()).await;
        let head =
            b"POST /v1/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nNatsH-X: ";
        connection
            .send([&head[..], value, b"\r\n\r\n"].concat())
            .await;
        let answer = connection.response().await.unwrap();
        assert_eq!(answer.status, status, "{value:?}");
    }
    calm.holds().await;
}

#[tokio::test]
async fn the_limits_of_headers_are_64_and_8_kib() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    for (path, fine) in [
        ("/v1/publish/a", 204),
        ("/v1/publish/a?confirm=none", 202),
        ("/v1/request/nobody", 503),
    ] {
        let with = |count: usize| {
            let mut request = bridge.post(path);
            for number in 0..count {
                request = request.header(&format!("natsh-x{number}"), "v");
            }
            request.send()
        };
        with(64).await.expect(fine);
        with(65).await.expect_problem(431, "headers-too-large");
        let long = "v".repeat(8192);
        let answer = bridge.post(path).header("natsh-x", &long).send().await;
        answer.expect_problem(431, "headers-too-large");
    }
    calm.holds().await;
}

#[tokio::test]
async fn an_idempotency_key_is_visible_ascii() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let longest = "k".repeat(256);
    let send = |key: &str| {
        bridge
            .post("/v1/publish/a")
            .header("idempotency-key", key)
            .send()
    };
    send(&longest).await.expect(204);
    for key in ["", "a b", &format!("{longest}k"), "ü"] {
        send(key).await.expect_problem(400, "invalid-header");
    }
    calm.holds().await;
}

#[tokio::test]
async fn what_natsway_adds_counts_as_well() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], serde_json::json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    let send = async |headers: usize, path: &str, key: bool| {
        let mut request = bridge.post(path);
        for number in 0..headers {
            request = request.header(&format!("natsh-h-{number}"), "x");
        }
        if key {
            request = request.header("idempotency-key", "k");
        }
        request.send().await
    };
    let stored = "/v1/publish/s?confirm=stream&expect_stream=S";
    for (path, key) in [("/v1/publish/s", true), (stored, false)] {
        let fine = send(63, path, key).await;
        assert!(fine.status.is_success(), "{fine:?}");
        let problem = send(64, path, key).await;
        problem.expect_problem(431, "headers-too-large");
    }
}
