//! How often a client may ask: by whom it is, and by what it says.

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, SOON, eventually_some};

#[tokio::test]
async fn a_rate_is_kept_by_the_key_it_says() {
    let nats = Nats::start().await;
    let yaml = "
routes:
  - name: limited
    match: { method: POST, path: /limited }
    publish: { subject: a }
    rate: { limit: 1/h, burst: 2, key: \"header:x-tenant\" }
";
    let bridge = Bridge::start(&nats, yaml).await;
    let send = async |tenant: &str| {
        bridge
            .post("/limited")
            .header("x-tenant", tenant)
            .send()
            .await
    };
    for _ in 0..2 {
        send("red").await.expect(204);
    }
    let refused = send("red").await;
    assert!(refused.header("ratelimit").unwrap().contains("r=0"));
    assert!(
        refused
            .header("ratelimit-policy")
            .unwrap()
            .contains("q=1;w=3600")
    );
    refused.expect_problem(429, "rate-limited");
    send("blue").await.expect(204);
}

const BY_ADDRESS: &str = "
api: { publish: { rate: { limit: 1/h, burst: 2, key: client_ip } } }
routes:
  - name: limited
    match: { method: POST, path: /limited }
    publish: { subject: a }
    rate: { limit: 1/h, burst: 2, key: client_ip }
  - name: quick
    match: { method: POST, path: /quick }
    publish: { subject: a }
    rate: { limit: 5/s, burst: 1, key: client_ip }
  - name: feed
    match: { path: /feed }
    subscribe: { subjects: [a] }
    rate: { limit: 1/h, burst: 2, key: client_ip }
";

#[tokio::test]
async fn each_address_has_a_rate_of_its_own_whatever_it_says_of_itself() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, BY_ADDRESS).await;
    for path in ["/limited", "/v1/publish/a"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (source, statuses) in [
            ("127.0.0.1", [204, 204, 429]),
            ("127.0.0.2", [204, 204, 429]),
            ("127.0.0.1", [429; 3]),
        ] {
            for (number, status) in statuses.into_iter().enumerate() {
                // A connection each, and what a proxy might say: neither is believed.
                let mut raw = Connection::tcp_from(source, bridge.address()).await;
                let said =
                    format!("X-Forwarded-For: 10.0.0.{number}\r\nX-Real-IP: 10.0.0.{number}");
                let forwarded = format!("{said}\r\nForwarded: for=10.0.0.{number}");
                let answer = raw.request(&format!("{head}{forwarded}"), b"x").await;
                assert_eq!(answer.status, status, "{path} {source}");
                if status == 429 {
                    assert_eq!(answer.code().as_deref(), Some("rate-limited"));
                    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                    assert!((3000..=3600).contains(&wait), "{wait}");
                }
            }
        }
    }
}

#[tokio::test]
async fn openings_of_streams_are_counted_by_address_and_open_ones_go_on() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, BY_ADDRESS).await;
    let open = async |source: &str| {
        let mut raw = Connection::tcp_from(source, bridge.address()).await;
        raw.send("GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let status = raw.head().await.unwrap().status;
        (status, raw)
    };
    let mut streams = Vec::new();
    for (source, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1", 429),
        ("127.0.0.2", 200),
    ] {
        let (found, raw) = open(source).await;
        assert_eq!(found, status, "{source}");
        streams.push(raw);
    }
    drop(streams);
    assert_eq!(
        open("127.0.0.1").await.0,
        429,
        "an opening is not given back"
    );
}

#[tokio::test]
async fn a_rate_comes_back_with_time_and_is_announced() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, BY_ADDRESS).await;
    let mut raw = bridge.raw().await;
    let mut send = async || {
        let head = "POST /quick HTTP/1.1\r\nHost: localhost";
        raw.request(head, b"").await
    };
    let answer = send().await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"route\";q=5;w=1"));
    assert!(answer.header("ratelimit").unwrap().contains("r=0"));
    for _ in 0..2 {
        eventually_some(SOON, "the rate comes back", async || {
            (send().await.status == 204).then_some(())
        })
        .await;
    }
}
