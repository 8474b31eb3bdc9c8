//! The server is killed, cut off and frozen under load: every 2xx is true, nothing is late, and
//! traffic flows again by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;

use super::load::{Load, Shape};
use crate::harness::client::Opened;
use crate::harness::faults::Proxy;
use crate::harness::history::{History, Promise};
use crate::harness::{Bridge, Client, Nats, SOON, eventually, round_trip, soak, within};

/// Traffic is to flow again within two seconds of the server listening. `make soak` holds that; the
/// short form shares the machine with whatever else runs there.
fn back_within() -> Duration {
    soak(Duration::from_secs(8), Duration::from_secs(2))
}

const STREAM: Shape = Shape {
    subject: "orders.new",
    query: "confirm=stream&timeout=2s",
    with_key: true,
    timeout: Duration::from_secs(2),
};

const SERVER: Shape = Shape {
    subject: "ticks.now",
    query: "confirm=server&timeout=2s",
    with_key: false,
    timeout: Duration::from_secs(2),
};

/// Gives up before natsway does.
const IMPATIENT: Shape = Shape {
    query: "confirm=server&timeout=500ms",
    timeout: Duration::from_millis(500),
    ..SERVER
};

/// Everything that is stored, read back in order.
async fn read_stream(nats: &Nats, stream: &str, history: &History) {
    let last = nats.stream_state(stream).await["messages"]
        .as_u64()
        .unwrap();
    let client = nats.client().await;
    let mut inbox = client.subscribe("read.back").await.unwrap();
    round_trip(&client).await;
    let more = json!({"deliver_subject": "read.back", "ack_policy": "none"});
    nats.consumer(stream, "reader", more).await;
    for _ in 0..last {
        let message = tokio::time::timeout(SOON, inbox.next()).await;
        let message = message
            .expect("the stream is read back")
            .expect("the inbox stays open");
        history.saw(std::str::from_utf8(&message.payload).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_confirmed_is_there_once_though_the_server_is_killed() {
    let nats = Nats::start().await;
    nats.stream("ORDERS", &["orders.>"], json!({"storage": "file"}))
        .await;
    let bridge = Bridge::start(&nats, "").await;
    let load = Load::start(&bridge, soak(400, 5000), STREAM);
    for _ in 0..soak(3, 10) {
        load.flows(soak(100, 5_000), SOON).await;
        nats.kill9();
        bridge.is_disconnected().await;
        nats.restart().await;
        load.flows(1, back_within()).await;
    }
    load.flows(100, SOON).await;
    load.assert_offered();
    let history = load.finish().await;
    read_stream(&nats, "ORDERS", &history).await;
    history.verdict().assert_clean();
    assert!(history.count(Promise::Never) > 0, "the outages were seen");
}

/// Publishes keys, as far as is allowed, until each is stored; says how many answers told that it was
/// stored before.
async fn store_keys(
    bridge: &Bridge,
    keys: usize,
    allowed: &watch::Sender<usize>,
    done: &Arc<AtomicUsize>,
) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, next, done) = (bridge.client(), Arc::clone(&next), Arc::clone(done));
        let mut allowed = allowed.subscribe();
        tasks.spawn(async move {
            let mut duplicates = 0;
            loop {
                let key = next.fetch_add(1, Ordering::Relaxed);
                if key >= keys {
                    return duplicates;
                }
                let limit = allowed.wait_for(|limit| key < *limit).await;
                drop(limit.expect("there is a limit as long as there are keys"));
                let key = key.to_string();
                duplicates += usize::from(store_key(&client, &key).await);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await.into_iter().sum()
}

/// Tries until it is stored; whether it had been stored before.
async fn store_key(client: &Client, key: &str) -> bool {
    loop {
        let request = client.post("/v1/publish/orders.new?confirm=stream&timeout=2s");
        let request = request.header("idempotency-key", key).body(key.to_owned());
        let answer = request.send().await;
        match answer.status.as_u16() {
            200 => return answer.json()["duplicate"] == true,
            503 | 504 => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => panic!("{key}: {} {}", answer.status, answer.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retried_keys_are_stored_once() {
    const RESTARTS: usize = 5;
    let keys = soak(2_000, 50_000);
    let nats = Nats::start().await;
    let hour = 3_600_000_000_000_u64;
    let config = json!({"storage": "file", "duplicate_window": hour});
    nats.stream("ORDERS", &["orders.>"], config).await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let bridge = Bridge::builder().servers(&proxy.url()).start().await;
    let done = Arc::new(AtomicUsize::new(0));
    let part = |number: usize| keys * number / (RESTARTS + 1);
    let allowed = watch::Sender::new(part(1));
    let unrest = async {
        for restart in 1..=RESTARTS {
            eventually(SOON * 4, "keys are stored", async || {
                done.load(Ordering::Relaxed) >= part(restart)
            })
            .await;
            // Some are stored whose answers never arrive.
            proxy.stall_replies();
            allowed.send_replace(part(restart + 1));
            eventually(SOON, "more is stored than answered", async || {
                let answered = done.load(Ordering::Relaxed) as u64;
                nats.stream_state("ORDERS").await["messages"].as_u64() > Some(answered)
            })
            .await;
            nats.kill9();
            proxy.cut();
            bridge.is_disconnected().await;
            nats.restart().await;
            proxy.heal();
        }
    };
    let (duplicates, ()) = tokio::join!(store_keys(&bridge, keys, &allowed, &done), unrest);
    for key in (0..keys).step_by(keys / 100) {
        let again = store_key(&bridge.client(), &key.to_string()).await;
        assert!(again, "{key} is known after all that");
    }
    assert_eq!(nats.stream_state("ORDERS").await["messages"], keys);
    let history = History::default();
    for key in 0..keys {
        history.attempt(&key.to_string());
    }
    read_stream(&nats, "ORDERS", &history).await;
    history.verdict().assert_clean();
    assert!(
        duplicates >= RESTARTS,
        "each restart finds a key that was stored without its answer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_confirmed_was_delivered_though_connections_are_cut() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let bridge = Bridge::builder().servers(&proxy.url()).start().await;
    let counter = Counter::start(&nats).await;
    let load = Load::start(&bridge, soak(400, 5000), SERVER);
    for _ in 0..soak(5, 20) {
        load.flows(soak(100, 2_500), SOON).await;
        proxy.cut();
        bridge.is_disconnected().await;
        proxy.heal();
        load.flows(1, back_within()).await;
    }
    load.assert_offered();
    let history = load.finish().await;
    counter.finish(&history).await;
    history.verdict().assert_clean();
    assert!(history.count(Promise::Never) > 0, "the outages were seen");
}

/// A subscriber of its own, independent of natsway, that notes every tick.
struct Counter {
    client: async_nats::Client,
    seen: tokio::task::JoinHandle<Vec<String>>,
}

impl Counter {
    async fn start(nats: &Nats) -> Self {
        let client = nats.client().await;
        let mut ticks = client.subscribe("ticks.>").await.unwrap();
        round_trip(&client).await;
        let seen = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(tick) = ticks.next().await {
                if tick.subject.as_str() == "ticks.end" {
                    break;
                }
                seen.push(String::from_utf8(tick.payload.to_vec()).unwrap());
            }
            seen
        });
        Self { client, seen }
    }

    async fn finish(self, history: &History) {
        let end = self.client.publish("ticks.end", "end".into());
        end.await.unwrap();
        let seen = within(SOON, "the end comes", self.seen).await.unwrap();
        seen.iter().for_each(|key| history.saw(key));
    }
}

/// Reads a subscription until it has told a gap and then a message of after that.
async fn is_told_and_goes_on(mut reader: Opened) {
    let mut told = false;
    loop {
        let event = reader.event().await.expect("the stream goes on");
        match event.event.as_deref() {
            Some("gap") => {
                assert_eq!(event.json()["reason"], "reconnected");
                told = true;
            }
            None if told => return,
            None => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The most memory that natsway holds within a while.
async fn peak_rss(bridge: &Bridge, lasts: Duration) -> u64 {
    let end = tokio::time::Instant::now() + lasts;
    let mut peak = 0;
    while tokio::time::Instant::now() < end {
        peak = peak.max(bridge.rss_bytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_costs_callers_their_deadline_and_natsway_no_memory() {
    let nats = Nats::start().await;
    let counter = Counter::start(&nats).await;
    let bridge = Bridge::start(&nats, "nats: { ping_interval: 1s }").await;
    let reader = bridge.sse("/v1/subscribe/ticks.now").await;
    let reading = tokio::spawn(is_told_and_goes_on(reader));
    let load = Load::start(&bridge, soak(400, 2000), IMPATIENT);
    load.flows(200, SOON).await;
    let before = bridge.rss_bytes();
    nats.pause().await;
    let frozen = soak(Duration::from_millis(2500), Duration::from_secs(20));
    let paused = tokio::time::Instant::now();
    let noticed = async {
        bridge.is_disconnected().await;
        let noticed = paused.elapsed();
        // Each link by itself: the reader's, and the one that the load goes over.
        let (disconnects, link) = (
            "natsway_nats_disconnects_total",
            [("link", "subscriptions")],
        );
        bridge
            .metric_becomes(disconnects, &link, |n| n >= 1.0)
            .await;
        let (problems, code) = (
            "natsway_http_problems_total",
            [("code", "nats-disconnected")],
        );
        bridge.metric_becomes(problems, &code, |n| n >= 1.0).await;
        noticed
    };
    let (after, noticed) = tokio::join!(peak_rss(&bridge, frozen), noticed);
    let three_pings = Duration::from_secs(3);
    assert!(noticed < soak(SOON, three_pings), "{noticed:?}");
    nats.resume();
    load.flows(100, SOON).await;
    within(SOON, "the reader is told and goes on", reading)
        .await
        .unwrap();
    let history = load.finish().await;
    counter.finish(&history).await;
    history.verdict().assert_clean();
    assert!(history.count(Promise::Open) > 0, "some were under way");
    assert!(history.count(Promise::Never) > 0, "the outage was seen");
    let grown = after.saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn natsway_may_be_started_before_nats() {
    let nats = Nats::start().await;
    nats.kill9();
    let bridge = Bridge::builder()
        .nats(&nats)
        .without_waiting()
        .start()
        .await;
    assert_eq!(bridge.admin_get("/livez").await.0, 200);
    assert_eq!(bridge.admin_get("/readyz").await.0, 503);
    bridge
        .post("/v1/publish/a")
        .body("x")
        .send()
        .await
        .expect_problem(503, "nats-disconnected");
    let busy = cpu_ticks(bridge.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = cpu_ticks(bridge.pid()) - busy;
    assert!(
        busy < 40,
        "{busy} ticks of CPU in two idle seconds is a busy loop"
    );
    nats.restart().await;
    let listening = tokio::time::Instant::now();
    bridge.is_ready().await;
    let took = listening.elapsed();
    assert!(took < back_within(), "{took:?}");
    bridge
        .post("/v1/publish/a")
        .body("x")
        .send()
        .await
        .expect(204);
}

/// CPU time of a process, user and system, in clock ticks (a hundredth of a second).
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_nobody_answers_leave_nothing_behind() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let _silent = client.subscribe("silent").await.unwrap();
    round_trip(&client).await;
    ask_in_vain(&bridge, soak(1_000, 10_000)).await;
    let before = bridge.rss_bytes();
    ask_in_vain(&bridge, soak(4_000, 100_000)).await;
    eventually(SOON, "no reply is waited for", async || {
        bridge.metric("natsway_nats_replies_pending", &[]).await == 0.0
    })
    .await;
    let grown = bridge.rss_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
}

async fn ask_in_vain(bridge: &Bridge, times: usize) {
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..times {
        if asking.len() == 500 {
            asking.join_next().await.unwrap().unwrap();
        }
        let client = bridge.client();
        asking.spawn(async move {
            let answer = client
                .post("/v1/request/silent?timeout=50ms")
                .body("?")
                .send()
                .await;
            // 503 where the machine was too busy to send it in that time.
            assert!(
                matches!(answer.status.as_u16(), 503 | 504),
                "{}",
                answer.text()
            );
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
}
