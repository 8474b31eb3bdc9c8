//! Who gets no stream, and what is not shown on one.

use super::{envelope, publish};
use crate::harness::ws::Ws;
use crate::harness::{Bridge, Calm, Nats, SOON, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_subscribed_is_refused_with_its_code() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    for (path, status, code) in [
        ("/v1/subscribe/a..b", 400, "invalid-subject"),
        ("/v1/subscribe/a%20b", 400, "invalid-subject"),
        ("/v1/subscribe/a%0D%0APUB%20x", 400, "invalid-subject"),
        ("/v1/subscribe/%C3%A4", 400, "invalid-subject"),
        ("/v1/subscribe/%FF", 400, "invalid-subject"),
        ("/v1/subscribe/a.%3E.b", 400, "invalid-subject"),
        ("/v1/subscribe/%3E", 403, "subject-not-allowed"),
        ("/v1/subscribe/*.b", 403, "subject-not-allowed"),
        ("/v1/subscribe/$SYS.%3E", 403, "subject-not-allowed"),
        ("/v1/subscribe/_INBOX.%3E", 403, "subject-not-allowed"),
        ("/v1/subscribe", 400, "invalid-parameter"),
        (
            "/v1/subscribe?subject=a.*&subject=a.b",
            400,
            "invalid-parameter",
        ),
        ("/v1/subscribe/a?subject=b", 400, "invalid-parameter"),
        ("/v1/subscribe/a?max=0", 400, "invalid-parameter"),
        ("/v1/subscribe/a?format=xml", 400, "invalid-parameter"),
        ("/v1/subscribe/a?encoding=yaml", 400, "invalid-parameter"),
        ("/v1/subscribe/a?queue=b%20c", 400, "invalid-parameter"),
        ("/v1/subscribe/a?confirm=none", 400, "invalid-parameter"),
        ("/v1/subscribe/a?timeout=1h", 400, "invalid-parameter"),
        (
            "/v1/subscribe/a?errors=event&max=0",
            400,
            "invalid-parameter",
        ),
    ] {
        bridge.get(path).send().await.expect_problem(status, code);
        let answer = bridge.raw().await.refused_upgrade(path).await;
        assert_eq!(answer.status, status, "{path} as WebSocket");
        assert_eq!(answer.code().as_deref(), Some(code), "{path} as WebSocket");
    }
    let long = format!("/v1/subscribe/{}", "x".repeat(513));
    bridge
        .get(&long)
        .send()
        .await
        .expect_problem(414, "subject-too-long");
    let accept = bridge.get("/v1/subscribe/a").header("accept", "image/png");
    accept.send().await.expect_problem(406, "not-acceptable");
    let raw = bridge
        .get("/v1/subscribe/a?format=raw")
        .header("accept", "application/x-ndjson");
    raw.send().await.expect_problem(400, "invalid-parameter");
    let mut raw = bridge.raw().await;
    raw.send("HEAD /v1/subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = raw.head().await.expect("an answer");
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    bridge
        .post("/v1/subscribe/a")
        .send()
        .await
        .expect_problem(405, "method-not-allowed");
    let half = [("connection", "upgrade"), ("upgrade", "websocket")];
    let half = half
        .iter()
        .fold(bridge.get("/v1/subscribe/a"), |r, (n, v)| r.header(n, v));
    half.send().await.expect_problem(400, "invalid-header");
    calm.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_get_no_stream() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "cors: { origins: [\"https://app.example\"] }").await;
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://evil.example", false),
        ("https://app.example.evil.example", false),
        ("null", false),
    ] {
        let sse = bridge
            .get("/v1/subscribe/a?max=1")
            .header("origin", origin)
            .stream()
            .await;
        let status = if allowed { 200 } else { 403 };
        assert_eq!(sse.status.as_u16(), status, "{origin}");
        let cors = sse.header("access-control-allow-origin");
        assert_eq!(cors, allowed.then_some(origin), "{origin}");
        let headers = [("origin", origin)];
        for path in ["/v1/subscribe/a", "/v1/ws"] {
            let ws = Ws::connect(bridge.address(), path, &headers).await;
            assert_eq!(ws.is_ok(), allowed, "{origin} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_wildcard_shows_nothing_of_natss_own() {
    let nats = Nats::start().await;
    let yaml = "api: { subscribe: { subjects: { root_wildcards: true, deny: [\"secret.>\"] } } }";
    // What is denied overlaps every root wildcard, so it needs a route without a deny list.
    let denied = Bridge::start(&nats, yaml).await;
    denied
        .get("/v1/subscribe/%3E")
        .send()
        .await
        .expect_problem(403, "subject-not-allowed");
    let yaml = "api: { subscribe: { subjects: { root_wildcards: true } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut all = bridge.ndjson("/v1/subscribe/%3E?max=2").await;
    let client = nats.client().await;
    for subject in ["$X.a", "a", "_INBOX.mine", "b.c"] {
        publish(&client, subject, 1..2).await;
    }
    assert_eq!(all.json_line().await, Some(envelope("a", 1)));
    assert_eq!(all.json_line().await, Some(envelope("b.c", 1)));
    let end = all
        .json_line()
        .await
        .expect("what is not shown does not count");
    assert_eq!(end["reason"], "max");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_a_limit_in_the_process() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { subscribe: { streams_max: 2 } }").await;
    let one = bridge.sse("/v1/subscribe/a").await;
    let _two = bridge.ws("/v1/subscribe/b").await;
    bridge
        .get("/v1/subscribe/c")
        .send()
        .await
        .expect_problem(429, "too-many-streams");
    let event = bridge
        .get("/v1/subscribe/c?errors=event")
        .stream()
        .await
        .expect_ok();
    let mut event = event;
    assert_eq!(
        event.event().await.expect("a problem").json()["code"],
        "too-many-streams"
    );
    drop(one);
    eventually(SOON, "its place is free", async || {
        bridge.get("/v1/subscribe/c").stream().await.status == 200
    })
    .await;
}
