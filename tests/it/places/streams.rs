//! Places of streams: nobody waits for one, and it is held until the stream ends, whoever ends it.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::raw_http::Connection;
use crate::harness::ws::Ws;
use crate::harness::{Bridge, Nats, SOON, eventually};

const ONE: &str = "
api: { subscribe: { concurrency: { limit: 1, queue: 5 } } }
routes:
  - name: feed
    match: { path: /feed }
    subscribe: { subjects: [s.feed] }
    params: [max]
    concurrency: { limit: 1, queue: 5 }
  - name: history
    match: { path: /history }
    replay: { stream: T, from: new }
    params: [max]
    concurrency: { limit: 1, queue: 5 }
";

struct Row {
    route: &'static str,
    path: &'static str,
    /// What is published so that a stream of one message ends.
    subject: &'static str,
}

const ROWS: [Row; 5] = [
    Row {
        route: "subscribe",
        path: "/v1/subscribe/s.one?max=1",
        subject: "s.one",
    },
    Row {
        route: "subscribe-many",
        path: "/v1/subscribe?subject=s.two&max=1",
        subject: "s.two",
    },
    Row {
        route: "replay",
        path: "/v1/streams/S/subscribe?from=new&subject=s.three&max=1",
        subject: "s.three",
    },
    Row {
        route: "feed",
        path: "/feed?max=1",
        subject: "s.feed",
    },
    Row {
        route: "history",
        path: "/history?max=1",
        subject: "t.four",
    },
];

async fn open(bridge: &Bridge, path: &str) -> (u16, Connection) {
    let mut raw = bridge.raw().await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = raw.head().await.unwrap();
    (head.status, raw)
}

async fn is_full(bridge: &Bridge, path: &str) {
    let second = bridge.get(path).send().await;
    let problem = second.expect_problem(503, "overloaded");
    assert_eq!(problem["outcome"], "not_sent", "{path}");
    assert_eq!(problem["limit"], 1, "{path}");
}

async fn becomes_free(bridge: &Bridge, route: &str) {
    let labels = [("route", route)];
    bridge
        .metric_becomes("natsway_http_streams", &labels, |open| open < 0.5)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_stream_holds_one_until_it_ends() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.stream("T", &["t.>"], json!({})).await;
    let bridge = Bridge::start(&nats, ONE).await;
    let (bridge, nats) = (&bridge, &nats);
    join_all(ROWS.map(
        |Row {
             route,
             path,
             subject,
         }| async move {
            // The client goes away.
            let (status, stream) = open(bridge, path).await;
            assert_eq!(status, 200, "{path}");
            is_full(bridge, path).await;
            drop(stream);
            becomes_free(bridge, route).await;
            // The stream comes to its end.
            let mut stream = bridge.sse(path).await;
            is_full(bridge, path).await;
            if route != "history" {
                nats.store(subject, "1").await;
                stream.rest().await;
                becomes_free(bridge, route).await;
                let (status, _stream) = open(bridge, path).await;
                assert_eq!(status, 200, "{path}");
            }
        },
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_holds_one_until_it_is_closed_or_cut() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, ONE).await;
    for path in ["/v1/ws", "/v1/subscribe/s.one", "/feed"] {
        let try_open = async || Ws::connect(bridge.address(), path, &[]).await;
        let is_free = async || {
            eventually(SOON, "the place is free", async || try_open().await.is_ok()).await;
        };
        let first = bridge.ws(path).await;
        let refused = try_open().await.err().expect("no place").to_string();
        assert!(refused.contains("503"), "{path}: {refused}");
        first.close().await;
        is_free().await;
        is_free().await;
        let cut = eventually_open(&bridge, path).await;
        assert!(try_open().await.is_err());
        drop(cut.into_socket());
        is_free().await;
    }
}

async fn eventually_open(bridge: &Bridge, path: &str) -> Ws {
    crate::harness::eventually_some(SOON, "the place is free", async || {
        Ws::connect(bridge.address(), path, &[]).await.ok()
    })
    .await
}
