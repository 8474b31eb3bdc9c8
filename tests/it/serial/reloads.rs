//! One configuration after the other while requests run: none of them fails.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, SOON, eventually_some, respond, soak};

/// Each time something is different of each route: a limit, a time, a header, a breaker, its neighbour.
fn configuration(number: u32) -> String {
    let (even, limit) = (number.is_multiple_of(2), 64 + number % 7);
    let more = match even {
        true => "",
        false => "  - { name: more, match: { path: /more }, subscribe: { subjects: [more] } }\n",
    };
    format!(
        "
api: {{ publish: {{ timeout: {timeout}s, concurrency: {{ limit: {limit}, queue: {limit} }} }} }}
streams: {{ keep_alive: {timeout}s }}
routes:
  - name: order
    match: {{ method: POST, path: /order }}
    publish: {{ subject: orders.{number} }}
    timeout: {timeout}s
    concurrency: {{ limit: {limit}, queue: {limit} }}
    rate: {{ limit: 1000000/s }}
  - name: stock
    match: {{ method: POST, path: \"/stock/{{sku}}\" }}
    request: {{ subject: \"stock.{{sku}}\" }}
    breaker: {{ failures: {limit}, window: 10s, open_for: 5s }}
    headers: {{ set: {{ Number: \"{number}\" }} }}
  - name: feed
    match: {{ path: /feed }}
    subscribe: {{ subjects: [feed] }}
    concurrency: {{ limit: {limit} }}
{more}",
        timeout = 20 + number % 5,
    )
}

const WRONG: [&str; 4] = [
    "routes: 1",
    "http: { connections_max: 10 }",
    "nonsense: true",
    "routes: [{ name: a, match: { path: /a }, publish: { subject: \"a.>\" } }]",
];

/// One client that goes on asking on one connection, which nobody closes.
async fn ask(
    mut raw: Connection,
    path: &'static str,
    good: u16,
    stop: watch::Receiver<bool>,
) -> u64 {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost");
    let mut answered = 0;
    while !*stop.borrow() {
        let answer = raw.request(&head, b"x").await;
        assert_eq!(answer.status, good, "{path}: {answer:?}");
        assert_eq!(answer.header("connection"), None);
        answered += 1;
    }
    answered
}

/// Publishes numbers, and reads them from two streams that were opened before the first reload.
async fn follow(
    bridge: &Bridge,
    client: async_nats::Client,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = u64> + use<> {
    let (mut events, mut frames) = (bridge.sse("/feed").await, bridge.ws("/feed").await);
    async move {
        let mut number = 0_u64;
        while !*stop.borrow() {
            client
                .publish("feed", number.to_string().into())
                .await
                .unwrap();
            assert_eq!(events.event().await.expect("no end").json()["data"], number);
            assert_eq!(frames.next().await["data"], number);
            number += 1;
        }
        number
    }
}

/// How many reloads were good and how many were not, once that is more than before.
async fn taken(bridge: &Bridge, before: (f64, f64)) -> (f64, f64) {
    eventually_some(SOON, "a reload", async || {
        let metrics = bridge.metrics().await;
        let of = |result| metrics.get("natsway_config_reloads_total", &[("result", result)]);
        let now = (of("ok")?, of("rejected")?);
        (now.0 + now.1 > before.0 + before.1).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_request() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, &configuration(0)).await;
    let client = nats.client().await;
    respond(&nats, "stock.*", "12").await;
    let (stop, stopped) = watch::channel(false);
    let mut load = JoinSet::new();
    for (path, good) in [
        ("/order", 204),
        ("/stock/7", 200),
        ("/v1/publish/a", 204),
        ("/v1/request/stock.8", 200),
    ] {
        for _ in 0..2 {
            let asking = ask(bridge.raw().await, path, good, stopped.clone());
            load.spawn(async move { (path, asking.await) });
        }
    }
    let following = follow(&bridge, client, stopped).await;
    load.spawn(async move { ("/feed", following.await) });

    let (reloads, lasts) = soak(
        (u32::MAX, Duration::from_millis(1500)),
        (1000, Duration::MAX),
    );
    let start = Instant::now();
    let (mut counted, mut sent) = ((0.0, 0.0), (0.0, 0.0));
    for number in 1..=reloads {
        if start.elapsed() >= lasts && counted.1 > 0.0 {
            break;
        }
        let wrong = number.is_multiple_of(10);
        match wrong {
            true => bridge.configure(WRONG[number as usize / 10 % WRONG.len()]),
            false => bridge.configure(&configuration(number)),
        }
        *(if wrong { &mut sent.1 } else { &mut sent.0 }) += 1.0;
        bridge.signal(libc::SIGHUP);
        counted = taken(&bridge, counted).await;
        let failed = load.try_join_next();
        assert!(failed.is_none(), "a client ended early: {failed:?}");
    }
    let took = start.elapsed();
    stop.send(true).unwrap();
    let mut answers = HashMap::new();
    while let Some(answered) = load.join_next().await {
        let (path, answered) = answered.unwrap();
        *answers.entry(path).or_insert(0) += answered;
    }
    eprintln!("{counted:?} of {sent:?} reloads taken and refused in {took:?}, {answers:?}");
    assert!(
        counted.0 + counted.1 >= sent.0 + sent.1 && counted.1 > 0.0,
        "{counted:?} of {sent:?}"
    );
    assert!(answers.values().all(|answers| *answers > 0), "{answers:?}");
    // The last good one is in force, and all that ran has given back what it took.
    bridge.reload(&configuration(1)).await;
    bridge.sse("/more").await;
    for route in ["order", "stock", "publish", "request"] {
        let labels = [("route", route)];
        let running = bridge.metric("natsway_http_requests_in_flight", &labels);
        assert!(running.await < 0.5, "{route}");
    }
}
