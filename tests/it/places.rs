//! The places of a route, on each kind of route: the limit, the queue, its end, and how a place is given
//! back. What the layers do by themselves is in `router/tests`; here each verb holds one.

mod streams;

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::faults::Proxy;
use crate::harness::raw_http::{Connection, Response};
use crate::harness::{Bridge, Nats};

/// One request at a time, and one that waits. NATS is there and answers nothing, so each holds its place.
const ONE: &str = "
nats: { ping_interval: 60s }
api:
  publish: { timeout: 28s, concurrency: { limit: 1, queue: 1 } }
  batch: { timeout: 28s, concurrency: { limit: 1, queue: 1 } }
  request: { timeout: 28s, concurrency: { limit: 1, queue: 1 } }
  jetstream: { timeout: 28s, concurrency: { limit: 1, queue: 1 } }
routes:
  - name: order
    match: { method: POST, path: /order }
    publish: { subject: a }
    params: [timeout]
    timeout: 28s
    concurrency: { limit: 1, queue: 1 }
  - name: stock
    match: { path: /stock }
    request: { subject: a }
    params: [timeout]
    timeout: 28s
    concurrency: { limit: 1, queue: 1 }
";

/// A request that holds a place of its route until NATS answers, or all of a batch has come.
#[derive(Clone, Copy, Debug)]
struct Row {
    route: &'static str,
    line: &'static str,
    head: &'static str,
    body: &'static str,
}

const PLAIN: (&str, &str) = ("Content-Length: 1", "x");
const LINES: (&str, &str) = (
    "Content-Type: application/x-ndjson\r\nContent-Length: 99",
    "{",
);
const NONE: (&str, &str) = ("Accept: */*", "");

const fn row(route: &'static str, line: &'static str, rest: (&'static str, &'static str)) -> Row {
    let (head, body) = rest;
    Row {
        route,
        line,
        head,
        body,
    }
}

const ROWS: [Row; 8] = [
    row("publish", "POST /v1/publish/a", PLAIN),
    row("batch", "POST /v1/publish", LINES),
    row("request", "POST /v1/request/a", PLAIN),
    row("fetch", "POST /v1/streams/S/consumers/C/fetch", PLAIN),
    row("streams-get", "GET /v1/streams/S", NONE),
    row("streams-list", "GET /v1/streams", NONE),
    row("order", "POST /order", PLAIN),
    row("stock", "GET /stock", NONE),
];

struct Case<'b> {
    bridge: &'b Bridge,
    row: Row,
}

impl Case<'_> {
    async fn ask(&self, query: &str) -> Connection {
        let Row {
            line, head, body, ..
        } = self.row;
        let mut raw = self.bridge.raw().await;
        let request = format!("{line}{query} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{body}");
        assert!(raw.send(request).await);
        raw
    }

    /// So many are under way, and so many of them wait.
    async fn becomes(&self, under_way: f64, waiting: f64) {
        let labels = [("route", self.row.route)];
        for (name, wanted) in [
            ("natsway_http_requests_in_flight", under_way),
            ("natsway_http_requests_waiting", waiting),
        ] {
            let is_so = |found: f64| (found - wanted).abs() < 0.5;
            self.bridge.metric_becomes(name, &labels, is_so).await;
        }
    }

    fn is_shed(&self, answer: &Response, why: &str) {
        let what = format!("{:?}: {answer:?}", self.row);
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (503, Some("overloaded")),
            "{what}"
        );
        assert!(answer.header("retry-after").is_some(), "{what}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["outcome"], "not_sent", "{what}");
        assert_eq!(problem["limit"], 1, "{what}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{what}");
    }

    async fn run(self) {
        let first = self.ask("").await;
        self.becomes(1.0, 0.0).await;
        // It waits until its deadline.
        let start = Instant::now();
        let mut hasty = self.ask("?timeout=300ms").await;
        self.is_shed(&hasty.response().await.unwrap(), "until the deadline");
        assert!(
            start.elapsed() >= Duration::from_millis(280),
            "{:?}",
            self.row
        );
        // One waits, so the next is shed at once.
        let second = self.ask("").await;
        self.becomes(2.0, 1.0).await;
        let mut third = self.ask("").await;
        self.is_shed(&third.response().await.unwrap(), "its queue is full");
        // Who waits and leaves makes room in the queue. Of a batch nothing is read before it has a place, so
        // nothing tells that its client has left.
        let second = match self.row.route {
            "batch" => second,
            _ => {
                drop(second);
                self.becomes(1.0, 0.0).await;
                self.ask("").await
            }
        };
        self.becomes(2.0, 1.0).await;
        // Who has the place and leaves makes room for who waits.
        drop(first);
        self.becomes(1.0, 0.0).await;
        let third = self.ask("").await;
        self.becomes(2.0, 1.0).await;
        drop((second, third));
        self.becomes(0.0, 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_request_holds_one_waits_for_one_and_gives_it_back() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let bridge = Bridge::builder().servers(&proxy.url()).yaml(ONE);
    let bridge = bridge.start().await;
    proxy.stall();
    let bridge = &bridge;
    join_all(ROWS.map(|row| Case { bridge, row }.run())).await;
}

/// A place is for work: who is slow to send has none, and takes one when all is there.
#[tokio::test]
async fn slow_senders_hold_no_place() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let bridge = Bridge::builder().servers(&proxy.url());
    let bridge = bridge.yaml(&ONE.replace("queue: 1", "queue: 0"));
    let bridge = bridge.start().await;
    let head = "POST /order HTTP/1.1\r\nHost: localhost\r\n";
    let mut slow = Vec::new();
    for length in [
        "Content-Length: 2\r\n\r\nx",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    ] {
        for _ in 0..3 {
            let mut raw = bridge.raw().await;
            assert!(raw.send(format!("{head}{length}")).await);
            slow.push(raw);
        }
    }
    let labels = [("route", "order")];
    let in_flight = "natsway_http_requests_in_flight";
    bridge.metric_becomes(in_flight, &labels, |n| n > 5.5).await;
    bridge.post("/order").body("good").send().await.expect(204);
    let mut last = slow.pop().unwrap();
    last.send("1\r\ny\r\n0\r\n\r\n").await;
    assert_eq!(last.response().await.unwrap().status, 204);
    // Where all places are taken meanwhile, it is shed like any other.
    proxy.stall();
    let case = Case {
        bridge: &bridge,
        row: ROWS[6],
    };
    assert_eq!(case.row.route, "order");
    let _holds = case.ask("").await;
    bridge.metric_becomes(in_flight, &labels, |n| n > 5.5).await;
    let full = async || bridge.post("/order").send().await.status == 503;
    crate::harness::eventually(crate::harness::SOON, "the route is full", full).await;
    let mut first = slow.remove(0);
    first.send("y").await;
    case.is_shed(&first.response().await.unwrap(), "its queue is full");
}
