//! async-nats without HTTP: what natsway stands on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::http_load::Found;

/// Runs on a runtime of its own with as many workers as there are cores, as natsway does.
fn on_all_cores<F: Future<Output = Found> + Send + 'static>(future: F) -> Found {
    let run = move || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    };
    std::thread::spawn(run).join().unwrap()
}

/// Requests to `subject`, so many in flight: a publish with its ack where a stream listens.
pub(crate) fn requests(
    nats: &str,
    subject: &'static str,
    in_flight: usize,
    span: Duration,
) -> Found {
    let nats = nats.to_owned();
    on_all_cores(async move {
        let client = Arc::new(async_nats::connect(nats).await.unwrap());
        let payload = Bytes::from(vec![b'x'; 128]);
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            let (client, payload) = (Arc::clone(&client), payload.clone());
            tasks.spawn(async move {
                let mut found = Found::default();
                while start.elapsed() < span {
                    let asked = Instant::now();
                    client.request(subject, payload.clone()).await.unwrap();
                    found
                        .latencies_us
                        .push(asked.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
                    found.answers += 1;
                }
                found
            });
        }
        let mut all = Found::default();
        while let Some(done) = tasks.join_next().await {
            let one = done.unwrap();
            all.answers += one.answers;
            all.latencies_us.extend(one.latencies_us);
        }
        all.elapsed = start.elapsed();
        all.latencies_us.sort_unstable();
        all
    })
}

/// Publishes flat out and waits until the server has read it all.
pub(crate) fn flat_out(nats: &str, messages: u64, payload_bytes: usize) -> Found {
    let nats = nats.to_owned();
    on_all_cores(async move {
        let client = async_nats::connect(nats).await.unwrap();
        let payload = Bytes::from(vec![b'x'; payload_bytes]);
        let start = Instant::now();
        for _ in 0..messages {
            client.publish("bench.flat", payload.clone()).await.unwrap();
        }
        // A request to ourselves comes back only after everything before it was read.
        let mut inbox = client.subscribe("bench.fence").await.unwrap();
        client.publish("bench.fence", Bytes::new()).await.unwrap();
        futures_util::StreamExt::next(&mut inbox).await.unwrap();
        Found {
            answers: messages,
            elapsed: start.elapsed(),
            ..Found::default()
        }
    })
}

/// Publishes `rate_hz` messages a second (flat out if none) to `subject` for `span`; how many.
pub(crate) fn publish_at(
    nats: &str,
    subject: &'static str,
    rate_hz: Option<u64>,
    span: Duration,
) -> u64 {
    let nats = nats.to_owned();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    on_all_cores(async move {
        let client = async_nats::connect(nats).await.unwrap();
        let payload = Bytes::from(vec![b'x'; 128]);
        let start = Instant::now();
        // Several a tick, or ticks far enough apart.
        let ticks_hz = rate_hz.map_or(200, |hz| hz.min(200));
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / ticks_hz as u32);
        while start.elapsed() < span {
            if rate_hz.is_some() {
                ticks.tick().await;
            }
            for _ in 0..rate_hz.map_or(64, |hz| hz / ticks_hz) {
                client.publish(subject, payload.clone()).await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
            client.flush().await.unwrap();
        }
        Found::default()
    });
    sent.load(Ordering::Relaxed)
}
