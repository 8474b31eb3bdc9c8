//! Who never gets as far as a route is counted all the same; and how late streams are.

use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats};

const REJECTIONS: &str = "natsway_http_rejections_total";

async fn counted(bridge: &Bridge, reason: &str) {
    let labels = [("listener", "data"), ("reason", reason)];
    bridge
        .metric_becomes(REJECTIONS, &labels, |count| count == 1.0)
        .await;
}

#[tokio::test]
async fn what_is_no_http_is_counted_by_its_reason() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "http: { header_timeout: 300ms }").await;
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    for (head, status, reason) in [
        ("GET / HTTP/9.9\r\n\r\n", 400, "malformed"),
        (&huge, 431, "too-large"),
    ] {
        let mut connection = Connection::tcp(bridge.address()).await;
        connection.send(head).await;
        let answer = connection.until_closed().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        counted(&bridge, reason).await;
    }
    let mut slow = Connection::tcp(bridge.address()).await;
    slow.send("GET / HTTP/1.1\r\nHo").await;
    slow.until_closed().await;
    counted(&bridge, "header-timeout").await;
}

#[tokio::test]
async fn an_idle_connection_that_is_closed_is_no_rejection() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "http: { idle_timeout: 300ms }").await;
    let mut connection = Connection::tcp(bridge.address()).await;
    connection
        .send("GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(!connection.until_closed().await.is_empty());
    assert_eq!(
        bridge.metric(REJECTIONS, &[("listener", "data")]).await,
        0.0
    );
}

#[tokio::test]
async fn connections_that_have_to_wait_for_one_another_are_counted() {
    let nats = Nats::start().await;
    let yaml = "http: { connections_max: 2 }\napi: { subscribe: { streams_max: 1 } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(bridge.address()).await.unwrap());
    }
    counted(&bridge, "connections-max").await;
}

#[tokio::test]
async fn each_write_of_a_stream_says_how_late_it_is() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store("s.a", "x").await;
    let stored = std::time::Instant::now();
    let mut core = bridge.sse("/v1/subscribe/a").await.expect_ok();
    bridge.post("/v1/publish/a").send().await.expect(204);
    core.event().await.unwrap();
    // The age that the metric is to show.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let mut replay = bridge
        .sse("/v1/streams/S/subscribe?from=all")
        .await
        .expect_ok();
    replay.event().await.unwrap();
    for route in ["subscribe", "replay"] {
        let labels = [("route", route)];
        bridge
            .metric_becomes("natsway_stream_lag_seconds_count", &labels, |count| {
                count == 1.0
            })
            .await;
    }
    let metrics = bridge.metrics().await;
    let late = metrics.get("natsway_stream_lag_seconds_sum", &[("route", "replay")]);
    let late = late.unwrap();
    assert!(
        late >= 0.3 && late <= stored.elapsed().as_secs_f64() + 1.0,
        "{late}"
    );
}
