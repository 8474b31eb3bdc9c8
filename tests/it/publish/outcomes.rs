//! What became of the message when something goes wrong between natsway and NATS.

use serde_json::json;

use crate::harness::{Bridge, Nats, SOON, eventually};

#[tokio::test]
async fn while_nats_is_away_nothing_is_sent_and_that_is_said_at_once() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.kill9();
    let gone = async || {
        let answer = bridge.post("/v1/publish/a?confirm=none").send().await;
        answer.status == 503
    };
    eventually(SOON, "natsway notices", gone).await;
    for confirm in ["none", "server", "stream"] {
        let answer = bridge
            .post(&format!("/v1/publish/a?confirm={confirm}"))
            .send()
            .await;
        let problem = answer.expect_problem(503, "nats-disconnected");
        assert_eq!(problem["outcome"], "not_sent", "{confirm}");
        assert_eq!(problem["retryable"], true, "{confirm}");
        assert_eq!(problem["source"], "nats", "{confirm}");
    }
    nats.restart().await;
    let back = async || bridge.post("/v1/publish/a").send().await.status == 204;
    eventually(SOON, "natsway heals", back).await;
}

#[tokio::test]
async fn a_route_may_wait_for_nats_within_its_timeout() {
    let nats = Nats::start().await;
    let yaml = "api: { publish: { when_disconnected: wait, timeout: 30s } }";
    let bridge = Bridge::start(&nats, yaml).await;
    nats.kill9();
    let in_vain = bridge.post("/v1/publish/a?timeout=300ms").send().await;
    // The first of these may still meet the old connection, and then its outcome is unknown.
    assert!(matches!(in_vain.status.as_u16(), 503 | 504), "{in_vain:?}");
    let in_vain = bridge.post("/v1/publish/a?timeout=300ms").send().await;
    in_vain.expect_problem(503, "nats-disconnected");
    let waiting = tokio::spawn(bridge.post("/v1/publish/a").send());
    nats.restart().await;
    waiting.await.unwrap().expect(204);
}

#[tokio::test]
async fn a_server_that_does_not_answer_leaves_the_outcome_unknown() {
    let nats = Nats::start().await;
    // A ping interval long enough that the frozen connection is not given up meanwhile.
    let bridge = Bridge::start(&nats, "nats: { ping_interval: 60s }").await;
    nats.stream("S", &["s"], json!({})).await;
    nats.pause().await;
    for (confirm, key, retryable) in [
        ("server", None, false),
        ("server", Some("k"), false),
        ("stream", None, false),
        ("stream", Some("k"), true),
    ] {
        let path = format!("/v1/publish/s?timeout=500ms&confirm={confirm}");
        let mut request = bridge.post(&path);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.body("x").send().await;
        let problem = answer.expect_problem(504, "publish-outcome-unknown");
        assert_eq!(problem["outcome"], "unknown", "{confirm} {key:?}");
        assert_eq!(problem["retryable"], retryable, "{confirm} {key:?}");
    }
    nats.resume();
    let back = async || bridge.post("/v1/publish/s").send().await.status == 204;
    eventually(SOON, "natsway heals", back).await;
}

#[tokio::test]
async fn what_the_nats_user_may_not_is_told() {
    let nats = Nats::builder()
        .config(
            r#"authorization { users: [
                { user: narrow, password: x, permissions: {
                    publish: { allow: ["ok.>", "_INBOX_natsway.>"] }, subscribe: { allow: "_INBOX_natsway.>" } } }
                { user: fenceless, password: x, permissions: {
                    publish: { allow: ["ok.>", "$JS.>"] }, subscribe: { allow: "_INBOX_natsway.>" } } }
            ] }"#,
        )
        .start()
        .await;
    let as_user = |user: &str| format!("nats: {{ auth: {{ user: {user}, password: x }} }}");
    let bridge = Bridge::start(&nats, &as_user("narrow")).await;
    bridge.post("/v1/publish/ok.a").send().await.expect(204);
    let denied = bridge.post("/v1/publish/no.a").send().await;
    let problem = denied.expect_problem(403, "nats-permission-denied");
    assert_eq!(problem["outcome"], "rejected");

    let bridge = Bridge::start(&nats, &as_user("fenceless")).await;
    bridge
        .post("/v1/publish/ok.a?confirm=none")
        .send()
        .await
        .expect(202);
    let fenceless = bridge.post("/v1/publish/ok.a").send().await;
    let problem = fenceless.expect_problem(501, "confirm-unavailable");
    assert_eq!(problem["outcome"], "not_sent");
}
