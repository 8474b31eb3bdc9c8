//! The admin listener.

use std::time::Duration;

use crate::harness::{Bridge, Nats, SOON, eventually};

#[tokio::test]
async fn readiness_is_a_latch_and_strict_is_not() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    bridge.is_connected().await;
    nats.kill9();
    bridge.is_disconnected().await;
    assert_eq!(bridge.admin_get("/readyz").await.0, 200);
    assert_eq!(bridge.admin_get("/livez").await.0, 200);
    let (status, body) = bridge.admin_get("/readyz?strict=true").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"nats_connected\":false"), "{body}");
    nats.restart().await;
    bridge.is_connected().await;
}

#[tokio::test]
async fn it_is_alive_but_not_ready_before_nats_was_there() {
    let bridge = Bridge::builder()
        .servers("nats://127.0.0.1:1")
        .without_waiting()
        .start()
        .await;
    assert_eq!(bridge.admin_get("/livez").await.0, 200);
    let (status, body) = bridge.admin_get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("not connected yet"), "{body}");
    let url = format!("http://{}/readyz", bridge.admin());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/problem+json");
    assert_eq!(header("retry-after"), "1");
    let request_id = header("x-request-id");
    let problem: serde_json::Value = answer.json().await.unwrap();
    crate::harness::client::assert_well_formed(&problem);
    assert_eq!(problem["code"], "nats-disconnected");
    assert_eq!(problem["request_id"], request_id);
    assert_eq!(problem["ready"], false);
    assert_eq!(problem["reason"], "NATS was not connected yet");
}

#[tokio::test]
async fn what_is_on_one_listener_is_not_on_the_other() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(bridge.admin_get(path).await.0, 200, "{path}");
        bridge
            .get(path)
            .send()
            .await
            .expect_problem(404, "not-found");
    }
    let (status, body) = bridge.admin_get("/v1/openapi.json").await;
    assert_eq!(status, 404);
    assert!(body.contains("\"code\":\"not-found\""), "{body}");
    let (status, body) = bridge.admin_get("/readyz?strict=maybe").await;
    assert_eq!((status, body.contains("invalid-parameter")), (400, true));
}

#[tokio::test]
async fn metrics_come_in_the_format_the_scraper_asks_for() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    bridge.get("/nowhere").send().await.expect(404);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/metrics", bridge.admin());
    let plain = client.get(&url).send().await.unwrap();
    let content_type = plain.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    let plain = plain.text().await.unwrap();
    assert!(!plain.contains("# EOF"));
    let open = client
        .get(&url)
        .header(
            "accept",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        )
        .send()
        .await
        .unwrap();
    let content_type = open.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    let open = open.text().await.unwrap();
    assert!(open.ends_with("# EOF\n"));
    let sample =
        "natsway_http_problems_total{route=\"not-found\",code=\"not-found\",source=\"client\"} 1";
    for text in [&plain, &open] {
        assert!(text.contains(sample), "{text}");
        assert!(text.contains("natsway_build_info{version="), "{text}");
    }
}

#[tokio::test]
async fn a_page_of_another_name_reads_no_metrics() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut raw = crate::harness::raw_http::Connection::tcp(bridge.admin()).await;
    raw.send("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .await;
    let answer = raw.response().await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (421, Some("host-not-allowed"))
    );
}

#[tokio::test]
async fn both_documents_are_the_same_and_one_can_be_switched_off() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let (_, admin) = bridge.admin_get("/openapi.json").await;
    let data = bridge.get("/v1/openapi.json").send().await.expect(200);
    assert_eq!(data.text(), admin);
    std::fs::write(bridge.config_file(), "api: { openapi: false }\n").unwrap();
    bridge.signal(libc::SIGHUP);
    eventually(SOON, "the document is gone", async || {
        bridge.get("/v1/openapi.json").send().await.status == 404
    })
    .await;
    assert_eq!(bridge.admin_get("/openapi.json").await.0, 200);
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_counted() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    std::fs::write(bridge.config_file(), "api: { openapi: 7 }\n").unwrap();
    bridge.signal(libc::SIGHUP);
    let line = bridge.logs("changes nothing").await;
    assert!(line.contains("api.openapi"), "{line}");
    bridge.get("/v1/openapi.json").send().await.expect(200);
    let (_, metrics) = bridge.admin_get("/metrics").await;
    assert!(
        metrics.contains("natsway_config_reloads_total{result=\"rejected\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    std::fs::write(bridge.config_file(), "api: { openapi: false }\n").unwrap();
    eventually(
        Duration::from_secs(60),
        "the file is read again",
        async || bridge.get("/v1/openapi.json").send().await.status == 404,
    )
    .await;
}
