//! `POST /v1/request/{subject}`.

mod many;

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures_util::StreamExt;
use serde_json::json;

use crate::harness::{Bridge, Client, Nats, SOON, arrived, eventually, round_trip, within};

/// A service that answers every request with this.
pub(super) async fn service(nats: &Nats, subject: &str, replies: Vec<(HeaderMap, Vec<u8>)>) {
    let client = nats.client().await;
    let mut requests = client.subscribe(subject.to_owned()).await.unwrap();
    round_trip(&client).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let to = request.reply.unwrap();
            for (headers, payload) in replies.clone() {
                let sent = client.publish_with_headers(to.clone(), headers, payload.into());
                sent.await.unwrap();
            }
        }
    });
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, *value);
    }
    headers
}

#[tokio::test]
async fn the_reply_is_the_answer_byte_for_byte() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let reply = headers(&[
        ("Content-Type", "text/html"),
        ("Order-Id", "7"),
        ("Order-Id", "8"),
        ("ce-type", "t"),
        ("Set-Cookie", "a=b"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Access-Control-Allow-Origin", "*"),
        ("Content-Security-Policy", "default-src *"),
    ]);
    let payload = b"\0\r\n\xff".to_vec();
    service(&nats, "svc", vec![(reply, payload.clone())]).await;
    let answer = bridge
        .post("/v1/request/svc")
        .body("x")
        .send()
        .await
        .expect(200);
    assert_eq!(answer.body, payload);
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-length"), Some("4"));
    assert_eq!(answer.header("ce-type"), Some("t"));
    assert_eq!(answer.headers.get_all("natsh-order-id").iter().count(), 2);
    for name in [
        "set-cookie",
        "transfer-encoding",
        "access-control-allow-origin",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }

    let large = vec![b'x'; 1024 * 1024 - 100];
    service(&nats, "large", vec![(HeaderMap::new(), large.clone())]).await;
    let answer = bridge.post("/v1/request/large").send().await.expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(answer.body, large);
    service(&nats, "empty", vec![(HeaderMap::new(), Vec::new())]).await;
    let answer = bridge.post("/v1/request/empty").send().await.expect(200);
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn an_error_of_the_service_is_its_status_and_a_problem() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for (code, status) in [
        ("400", 400),
        ("404", 404),
        ("409", 409),
        ("422", 422),
        ("503", 503),
        ("599", 599),
        ("401", 502),
        ("407", 502),
        ("408", 502),
        ("421", 502),
        ("200", 502),
        ("oops", 502),
    ] {
        let reply = headers(&[
            ("Nats-Service-Error-Code", code),
            ("Nats-Service-Error", "sold out"),
        ]);
        let subject = format!("svc.{code}");
        service(&nats, &subject, vec![(reply, b"{\"left\":0}".to_vec())]).await;
        let answer = bridge.post(&format!("/v1/request/{subject}")).send().await;
        let problem = answer.expect_problem(status, "service-error");
        assert_eq!(problem["source"], "responder", "{code}");
        assert_eq!(problem["outcome"], "rejected", "{code}");
        assert_eq!(problem["retryable"], false, "{code}");
        assert_eq!(
            problem["reply"],
            json!({"encoding": "json", "data": {"left": 0}})
        );
        assert!(problem["detail"].as_str().unwrap().contains("sold out"));
    }
}

#[tokio::test]
async fn an_error_is_told_without_its_reply_where_there_is_no_room_for_it() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    let failed = headers(&[
        ("Nats-Service-Error-Code", "409"),
        ("Nats-Service-Error", "sold out"),
    ]);
    // Each control character is six bytes of JSON.
    for (length, is_there) in [(100_000, true), (300_000, false)] {
        let subject = format!("svc.{length}");
        service(&nats, &subject, vec![(failed.clone(), vec![1; length])]).await;
        let answer = bridge.post(&format!("/v1/request/{subject}")).send().await;
        let problem = answer.expect_problem(409, "service-error");
        assert_eq!(problem["detail"], "409: sold out");
        assert_eq!(problem["outcome"], "rejected");
        let data = problem["reply"]["data"].as_str().map(str::len);
        assert_eq!(data, is_there.then_some(length));
        bridge
            .metric_becomes("natsway_http_bodies_held_bytes", &[], |n| n < 0.5)
            .await;
    }
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for query in ["timeout=60s", "timeout=60s&max_replies=5"] {
        let began = Instant::now();
        let answer = bridge
            .post(&format!("/v1/request/nobody?{query}"))
            .send()
            .await;
        let problem = answer.expect_problem(503, "no-responders");
        assert_eq!(problem["outcome"], "not_sent");
        assert_eq!(problem["retryable"], true);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "not after the timeout"
        );
    }
}

#[tokio::test]
async fn no_reply_in_time_leaves_the_outcome_unknown() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    service(&nats, "silent", Vec::new()).await;
    for query in ["timeout=300ms", "timeout=300ms&gap=10ms"] {
        let answer = bridge
            .post(&format!("/v1/request/silent?{query}"))
            .send()
            .await;
        let problem = answer.expect_problem(504, "reply-timeout");
        assert_eq!(problem["outcome"], "unknown");
        assert_eq!(problem["retryable"], false);
    }
}

#[tokio::test]
async fn a_connection_that_has_waited_longer_before_keeps_a_shorter_timeout() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    service(&nats, "svc", vec![(HeaderMap::new(), b"hi".to_vec())]).await;
    service(&nats, "silent", Vec::new()).await;
    for client in [Client::new(&bridge.url("")), Client::http2(&bridge.url(""))] {
        let ask = |path: &str| client.post(&format!("/v1/request/{path}")).send();
        ask("svc?timeout=30s").await.expect(200);
        for millis in [400, 200, 600] {
            let began = Instant::now();
            let answer = ask(&format!("silent?timeout={millis}ms")).await;
            answer.expect_problem(504, "reply-timeout");
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(millis), "{took:?}");
            assert!(took < Duration::from_secs(20), "{took:?}, not {millis} ms");
        }
        ask("svc?timeout=30s").await.expect(200);
    }
}

#[tokio::test]
async fn a_connection_lost_under_a_request_is_told_at_once() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let mut requests = client.subscribe("silent").await.unwrap();
    round_trip(&client).await;
    for query in ["timeout=60s", "timeout=60s&max_replies=2"] {
        let path = format!("/v1/request/silent?{query}");
        let asked = tokio::spawn(bridge.post(&path).send());
        within(SOON, "the request arrives", requests.next())
            .await
            .unwrap();
        let began = Instant::now();
        nats.kill9();
        let problem = asked
            .await
            .unwrap()
            .expect_problem(503, "nats-disconnected");
        assert_eq!(problem["outcome"], "unknown", "{query}");
        assert_eq!(problem["retryable"], false, "{query}");
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "not after the timeout"
        );
        let answer = bridge.post(&path).send().await;
        let problem = answer.expect_problem(503, "nats-disconnected");
        assert_eq!(problem["outcome"], "not_sent", "{query}");
        nats.restart().await;
        eventually(SOON, "natsway and the service are back", async || {
            let path = "/v1/request/silent?timeout=200ms";
            bridge.post(path).send().await.status == 504
        })
        .await;
        // What those attempts sent.
        arrived(&mut requests).await;
    }
}

#[tokio::test]
async fn a_route_may_wait_for_nats() {
    let nats = Nats::start().await;
    let yaml = "api: { request: { when_disconnected: wait, timeout: 30s } }";
    let bridge = Bridge::start(&nats, yaml).await;
    nats.kill9();
    eventually(SOON, "natsway notices", async || {
        let answer = bridge.post("/v1/request/nobody?timeout=100ms").send().await;
        answer.status == 503 && answer.json()["code"] == "nats-disconnected"
    })
    .await;
    let waiting = tokio::spawn(bridge.post("/v1/request/nobody").send());
    nats.restart().await;
    waiting.await.unwrap().expect_problem(503, "no-responders");
}

#[tokio::test]
async fn a_request_the_user_may_not_send_is_403() {
    let nats = Nats::builder()
        .config(
            r#"authorization { users: [ { user: u, password: x, permissions: {
                publish: { deny: ["no.>"] } } } ] }"#,
        )
        .start()
        .await;
    let bridge = Bridge::start(&nats, "nats: { auth: { user: u, password: x } }").await;
    for query in ["", "?max_replies=2"] {
        let answer = bridge
            .post(&format!("/v1/request/no.a{query}"))
            .send()
            .await;
        answer.expect_problem(403, "nats-permission-denied");
    }
}

#[tokio::test]
async fn a_declared_route_requests_what_it_says() {
    let nats = Nats::start().await;
    let reply = headers(&[("X-Cache", "hit"), ("Other", "1")]);
    service(&nats, "inventory.stock.*", vec![(reply, b"12".to_vec())]).await;
    let bridge = Bridge::start(
        &nats,
        r#"
routes:
  - name: stock
    match: { method: GET, path: "/stock/{sku}" }
    request: { subject: "inventory.stock.{sku}" }
    timeout: 20s
    headers: { return: [X-Cache] }
"#,
    )
    .await;
    let answer = bridge.get("/stock/a1?color=red").send().await.expect(200);
    assert_eq!(answer.body, "12");
    assert_eq!(answer.header("x-cache"), Some("hit"));
    assert_eq!(answer.header("natsh-other"), Some("1"));
    bridge
        .get("/stock/a.b")
        .send()
        .await
        .expect_problem(400, "invalid-subject");
    let answer = bridge.get("/stock/a1?max_replies=2").send().await;
    answer.expect_problem(400, "invalid-parameter");
    bridge
        .post("/stock/a1")
        .send()
        .await
        .expect_problem(405, "method-not-allowed");
}
