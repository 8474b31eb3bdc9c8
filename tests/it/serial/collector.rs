//! A collector that is dead, slow or broken costs nobody anything: not the requests, not the memory, not
//! the end.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::harness::otlp::Collector;
use crate::harness::{Bridge, Client, Nats, eventually, soak};

const CLIENTS: usize = 8;

/// What a collector does wrong.
type Fault = fn(&Collector);

const FAULTS: [(&str, Fault); 3] = [
    ("black hole", |collector| collector.answers_never()),
    ("slow", |collector| {
        collector.answers_after(Duration::from_millis(300));
    }),
    ("answers 500", |collector| collector.answers(500)),
];

async fn traced(nats: &Nats, collector: &Collector) -> Bridge {
    Bridge::builder()
        .nats(nats)
        .yaml("telemetry: { traces: { sample: 1 } }")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .start()
        .await
}

/// Publishes from several clients, so many each.
async fn publish(bridge: &Bridge, each: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = bridge.client();
        clients.spawn(async move {
            for _ in 0..each {
                client
                    .post("/v1/publish/a")
                    .body("x")
                    .send()
                    .await
                    .expect(204);
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

async fn resident_mib(bridge: &Bridge) -> f64 {
    bridge.metric("process_resident_memory_bytes", &[]).await / 1_048_576.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_fails_costs_neither_memory_nor_a_late_end() {
    stream::iter(FAULTS)
        .for_each_concurrent(soak(FAULTS.len(), 1), async |(fault, begin)| {
            costs_neither_memory_nor_a_late_end(fault, begin).await;
        })
        .await;
}

async fn costs_neither_memory_nor_a_late_end(fault: &str, begin: Fault) {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    begin(&collector);
    let bridge = traced(&nats, &collector).await;
    // Fills the queue of spans, where nobody empties it.
    publish(&bridge, 300).await;
    let before = resident_mib(&bridge).await;
    publish(&bridge, soak(600, 30_000)).await;
    let grown = resident_mib(&bridge).await - before;
    assert!(grown < 16.0, "{fault}: {grown} MiB more");
    eventually(Duration::from_secs(30), "it was asked", async || {
        collector.asked() > 0
    })
    .await;
    publish(&bridge, 20).await;
    let begun = Instant::now();
    bridge.sigterm();
    let status = bridge.wait_exit(Duration::from_secs(60)).await;
    assert!(status.success(), "{fault}: {status}");
    // Two seconds for the spans; the rest is a machine under load.
    let bound = Duration::from_secs(soak(10, 3));
    assert!(begun.elapsed() < bound, "{fault}: {:?}", begun.elapsed());
}

/// Answers a second of clients that ask as soon as they are answered.
async fn peak_hz(bridge: &Bridge) -> f64 {
    let begun = Instant::now();
    publish(bridge, 500).await;
    (500 * CLIENTS) as f64 / begun.elapsed().as_secs_f64()
}

/// The 99th percentile at a rate, counted from when a request was due.
async fn p99(client: &Client, rate_hz: f64, span: Duration) -> Duration {
    let mut tick = interval(Duration::from_secs_f64(1.0 / rate_hz));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut asking, until) = (JoinSet::new(), Instant::now() + span);
    while Instant::now() < until {
        let due = tick.tick().await;
        let request = client.post("/v1/publish/a").body("x");
        asking.spawn(async move {
            request.send().await.expect(204);
            due.elapsed()
        });
    }
    let mut latencies = Vec::new();
    while let Some(latency) = asking.join_next().await {
        latencies.push(latency.unwrap());
    }
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// Rates and latencies say something only where nothing else runs, so this asserts in `make soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_half_the_peak_rate_a_collector_that_fails_delays_nobody() {
    let span = Duration::from_millis(soak(300, 5000));
    let nats = Nats::start().await;
    let without = Bridge::start(&nats, "").await;
    let half_hz = peak_hz(&without).await / 2.0;
    for (fault, begin) in FAULTS {
        let collector = Collector::start().await;
        begin(&collector);
        let bridge = traced(&nats, &collector).await;
        let mut ratios = Vec::new();
        for _ in 0..soak(1, 5) {
            let quiet = p99(&without.client(), half_hz, span).await;
            let failing = p99(&bridge.client(), half_hz, span).await;
            ratios.push(failing.as_secs_f64() / quiet.as_secs_f64());
        }
        let limit = soak(f64::INFINITY, 1.25);
        let ratio = median(ratios);
        assert!(ratio <= limit, "{fault}: p99 is {ratio} times as long");
    }
}
