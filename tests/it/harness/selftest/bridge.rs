use std::time::Duration;

use crate::harness::{Bridge, Client, Nats, SOON, raw_http};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn natsway_starts_is_ready_and_ends_when_told() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    assert!(!nats.bridge_cids().await.is_empty());
    assert!(bridge.rss_bytes() > 1 << 20);
    assert!(bridge.fds() > 3);
    bridge.sigterm();
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_path_is_a_problem_on_every_kind_of_connection() {
    let nats = Nats::start().await;
    let bridge = Bridge::builder().nats(&nats).unix_socket().start().await;
    let url = bridge.url("");
    for client in [
        Client::new(&url),
        Client::http2(&url),
        Client::unix(&bridge.socket()),
    ] {
        client
            .get("/nowhere")
            .send()
            .await
            .expect_problem(404, "not-found");
    }
    let mut raw = raw_http::Connection::unix(&bridge.socket()).await;
    let answer = raw.request("GET /nowhere HTTP/1.1\r\nHost: x", b"").await;
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (404, Some("not-found"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_noticed_and_heals() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.kill9();
    bridge.is_disconnected().await;
    assert_eq!(bridge.admin_get("/readyz").await.0, 200);
    nats.restart().await;
    bridge.is_connected().await;
    bridge
        .metric_becomes("natsway_build_info", &[], |value| value >= 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn natsway_that_is_killed_leaves_its_log() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    bridge.logs("listening for requests").await;
    bridge.kill9();
    assert!(!bridge.wait_exit(Duration::from_secs(10)).await.success());
    assert!(!bridge.log().is_empty());
}
