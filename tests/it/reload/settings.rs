//! What is set for the process as a whole counts after a reload, too.

use std::time::Duration;

use crate::harness::{Bridge, Nats, SOON, eventually, within};

const TIGHT: &str = "
api: { subscribe: { streams_max: 1 } }
http: { body_timeout: 3s, compression: true }
streams: { keep_alive: 200ms, max_age: 1h }
memory: { bodies: 1MiB, streams: 3MiB }
cors: { origins: [\"https://app.example\"] }
telemetry: { log: { level: debug, access: all, format: text } }
shutdown: { grace: 1s }
";

#[tokio::test]
async fn every_bound_of_the_process_can_be_set_anew() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 300s }").await;
    bridge.reload(TIGHT).await;
    let warned = bridge.logs("count only after a restart").await;
    assert!(warned.contains("telemetry.log.format"), "{warned}");
    let held = bridge.metric("natsway_stream_held_limit_bytes", &[]).await;
    assert!((held - f64::from(3 << 20)).abs() < 0.5, "{held}");
    let page = bridge.get("/v1/openapi.json");
    let page = page
        .header("accept-encoding", "gzip")
        .header("origin", "https://app.example");
    let answer = page.header("x-request-id", "seen-in-the-log").send().await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://app.example"));
    bridge.logs("seen-in-the-log").await;

    let mut stream = bridge.sse("/v1/subscribe/a").await;
    let second = bridge.get("/v1/subscribe/a").send().await;
    second.expect_problem(429, "too-many-streams");
    let sign = async { while stream.block().await.expect("it lasts").comments.is_empty() {} };
    within(Duration::from_secs(10), "a keep-alive", sign).await;
    drop(stream);

    let mut slow = bridge.raw().await;
    let head = "POST /v1/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 700000\r\n\r\nx";
    slow.send(head).await;
    let drawn = "natsway_http_bodies_held_bytes";
    bridge
        .metric_becomes(drawn, &[], |bytes| bytes > 600_000.0)
        .await;
    let answer = slow.response().await.unwrap();
    assert_eq!(answer.code().as_deref(), Some("body-timeout"));

    let client = nats.client().await;
    let _silent = client.subscribe("silent").await.unwrap();
    crate::harness::round_trip(&client).await;
    let hangs = bridge.post("/v1/request/silent?timeout=60s");
    let hangs = tokio::spawn(hangs.try_send());
    let in_flight = [("route", "request")];
    bridge
        .metric_becomes("natsway_http_requests_in_flight", &in_flight, |n| n > 0.5)
        .await;
    bridge.sigterm();
    assert_eq!(bridge.wait_exit(SOON).await.code(), Some(0));
    let _ = within(SOON, "the end", hangs).await;
}

#[tokio::test]
async fn the_memory_for_bodies_can_be_set_anew() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    bridge.reload("memory: { bodies: 1MiB }").await;
    let head = "POST /v1/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 700000\r\n\r\n";
    let mut slow = bridge.raw().await;
    slow.send(head).await;
    let drawn = "natsway_http_bodies_held_bytes";
    bridge
        .metric_becomes(drawn, &[], |bytes| bytes > 600_000.0)
        .await;
    let mut second = bridge.raw().await;
    second.send(head).await;
    let refused = second.response().await.unwrap();
    assert_eq!(refused.code().as_deref(), Some("overloaded"));
    bridge.reload("").await;
    let mut third = bridge.raw().await;
    third.send(head).await;
    bridge
        .metric_becomes(drawn, &[], |bytes| bytes > 1_300_000.0)
        .await;
}

#[tokio::test]
async fn a_raised_cap_lets_in_who_waits() {
    let nats = Nats::start().await;
    let capped = "api: { subscribe: { streams_max: 1 } }\nhttp: { connections_max: 2 }";
    let bridge = Bridge::start(&nats, "").await;
    bridge.reload(capped).await;
    let (mut first, mut second) = (bridge.raw().await, bridge.raw().await);
    let page = "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost";
    for raw in [&mut first, &mut second] {
        assert_eq!(raw.request(page, b"").await.status, 200);
    }
    let mut third = bridge.raw().await;
    third.send(format!("{page}\r\n\r\n")).await;
    let rejected = [("reason", "connections-max")];
    let rejections = "natsway_http_rejections_total";
    eventually(SOON, "the accept loop pauses", async || {
        let metrics = bridge.metrics().await;
        metrics.get(rejections, &rejected).unwrap_or_default() > 0.5
    })
    .await;
    bridge.reload("").await;
    assert_eq!(third.response().await.unwrap().status, 200);
}
