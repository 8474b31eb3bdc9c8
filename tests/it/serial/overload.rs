//! Ten times more than a route takes: it goes on working at its limit, and what is too much is told so
//! at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, round_trip, soak};

const LIMIT: usize = 8;
/// What the responder takes, so that the route's capacity is `LIMIT` in this time.
const WORK: Duration = Duration::from_millis(20);

/// Answers each request after a while, and notes how many were under way at once.
fn respond(client: async_nats::Client, mut requests: async_nats::Subscriber) -> Arc<AtomicUsize> {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    tokio::spawn(async move {
        let under_way = Arc::new(AtomicUsize::new(0));
        while let Some(request) = requests.next().await {
            let (client, under_way) = (client.clone(), Arc::clone(&under_way));
            seen.fetch_max(
                under_way.fetch_add(1, Ordering::SeqCst) + 1,
                Ordering::SeqCst,
            );
            tokio::spawn(async move {
                tokio::time::sleep(WORK).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                let _ = client.publish(request.reply.unwrap(), "done".into()).await;
            });
        }
    });
    most
}

#[derive(Default)]
struct Seen {
    good: usize,
    shed: Vec<Duration>,
}

/// One client that asks every `every` from `first` on, or as soon as it has its answer.
async fn ask(mut raw: Connection, first: Instant, every: Duration, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval_at(first, every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while Instant::now() < until {
        ticks.tick().await;
        let start = Instant::now();
        let answer = raw
            .request("POST /work HTTP/1.1\r\nHost: localhost", b"")
            .await;
        match (answer.status, answer.code().as_deref()) {
            (200, _) => seen.good += 1,
            (503, Some("overloaded")) => seen.shed.push(start.elapsed()),
            other => panic!("{other:?}"),
        }
    }
    seen
}

async fn load(bridge: &Bridge, clients: usize, every: Duration, lasts: Duration) -> Seen {
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    for client in 0..clients {
        // Clients that know nothing of each other do not ask in step.
        let first =
            begun + every * u32::try_from(client).unwrap() / u32::try_from(clients).unwrap();
        asking.spawn(ask(bridge.raw().await, first, every, begun + lasts));
    }
    let mut all = Seen::default();
    while let Some(one) = asking.join_next().await {
        let one = one.unwrap();
        all.good += one.good;
        all.shed.extend(one.shed);
    }
    all.shed.sort_unstable();
    all
}

/// The 99th percentile of another route, meanwhile.
async fn beside(bridge: &Bridge, lasts: Duration) -> Duration {
    let mut raw = bridge.raw().await;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut took = Vec::new();
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        ticks.tick().await;
        let start = Instant::now();
        let head = "POST /v1/publish/a HTTP/1.1\r\nHost: localhost";
        assert_eq!(raw.request(head, b"x").await.status, 204);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_leaves_the_route_at_its_limit() {
    let nats = Nats::start().await;
    let yaml = "
routes:
  - name: work
    match: { method: POST, path: /work }
    request: { subject: work }
    concurrency: { limit: 8, queue: 8 }
";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    let requests = client.subscribe("work").await.unwrap();
    round_trip(&client).await;
    let most = respond(client, requests);
    let lasts = soak(Duration::from_millis(900), Duration::from_secs(10));
    let at_the_limit = load(&bridge, LIMIT, Duration::from_millis(1), lasts);
    let (peak, calm) = tokio::join!(at_the_limit, beside(&bridge, lasts));
    assert!(peak.shed.is_empty(), "{}", peak.shed.len());
    // Capacity is 400 a second; this asks 4,000 times a second.
    let too_much = load(&bridge, 200, Duration::from_millis(50), lasts);
    let (many, crowded) = tokio::join!(too_much, beside(&bridge, lasts));
    assert!(most.load(Ordering::SeqCst) <= LIMIT);
    assert!(many.good > 0 && !many.shed.is_empty());
    if soak(false, true) {
        let (peak, good) = (peak.good, many.good);
        let sheds = many.shed.len();
        eprintln!(
            "{peak} answers at the limit, {good} beyond it; {sheds} shed; p99 beside {calm:?}, {crowded:?}"
        );
        assert!(good * 10 >= peak * 8, "{good} of {peak}");
        let at_once = many.shed[many.shed.len() / 2];
        assert!(at_once < Duration::from_millis(5), "{at_once:?}");
        // Noise is what the 200 clients and the responder take of the same cores.
        let fair = calm.mul_f64(1.5) + Duration::from_millis(5);
        assert!(crowded <= fair, "{crowded:?}, and {calm:?} in calm");
    }
}
