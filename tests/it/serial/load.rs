//! Publishing at a rate, with every answer noted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::harness::history::History;
use crate::harness::{Answer, Bridge, Client};

/// What a load publishes: the path and query for a key, and whether the key goes along as
/// `Idempotency-Key`.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) subject: &'static str,
    pub(crate) query: &'static str,
    pub(crate) with_key: bool,
    /// What the query's `timeout` says.
    pub(crate) timeout: Duration,
}

/// A load under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) history: Arc<History>,
    pub(crate) slowest_us: Arc<AtomicU64>,
    pub(crate) confirmed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Publishes `rate_hz` messages a second, each with a key of its own, until stopped.
    pub(crate) fn start(bridge: &Bridge, rate_hz: u32, shape: Shape) -> Self {
        let history = Arc::new(History::default());
        let (stop, slowest_us) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let confirmed = Arc::new(AtomicU64::new(0));
        let publisher = Publisher {
            client: bridge.client(),
            shape,
            history: Arc::clone(&history),
            slowest_us: Arc::clone(&slowest_us),
            confirmed: Arc::clone(&confirmed),
        };
        let task = tokio::spawn(publisher.run(rate_hz, Arc::clone(&stop)));
        Self {
            stop,
            history,
            slowest_us,
            confirmed,
            task,
        }
    }

    /// Stops, and waits for every answer.
    pub(crate) async fn finish(self) -> Arc<History> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the load does not panic");
        self.history
    }

    /// The slowest answer so far.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::SeqCst))
    }

    /// Waits until another `n` publishes were confirmed.
    pub(crate) async fn flows(&self, n: u64, within: Duration) {
        let target = self.confirmed.load(Ordering::SeqCst) + n;
        crate::harness::eventually(within, "publishes are confirmed again", async || {
            self.confirmed.load(Ordering::SeqCst) >= target
        })
        .await;
    }
}

#[derive(Clone)]
struct Publisher {
    client: Client,
    shape: Shape,
    history: Arc<History>,
    slowest_us: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
}

/// Requests under way at once, at most: a stalled server must not grow the test.
const UNDER_WAY_MAX: usize = 2048;

impl Publisher {
    async fn run(self, rate_hz: u32, stop: Arc<AtomicBool>) {
        const TICK: Duration = Duration::from_millis(10);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        let mut number = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            for _ in 0..(rate_hz / 100).max(1) {
                if under_way.len() < UNDER_WAY_MAX {
                    under_way.spawn(self.clone().publish(number));
                    number += 1;
                }
            }
            while under_way.try_join_next().is_some() {}
        }
        while let Some(done) = under_way.join_next().await {
            done.expect("a publish does not panic");
        }
    }

    async fn publish(self, number: u64) {
        let key = format!("k{number}");
        let path = format!("/v1/publish/{}?{}", self.shape.subject, self.shape.query);
        let mut request = self.client.post(&path).body(key.clone());
        if self.shape.with_key {
            request = request.header("Idempotency-Key", &key);
        }
        self.history.attempt(&key);
        let asked = Instant::now();
        let answer = request.try_send().await.ok();
        let took = asked.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(took, Ordering::SeqCst);
        self.note(&key, answer.as_ref());
    }

    fn note(&self, key: &str, answer: Option<&Answer>) {
        if let Some(answer) = answer {
            let status = answer.status.as_u16();
            assert!(
                matches!(status, 200 | 204 | 503 | 504),
                "{status}: {}",
                answer.text()
            );
            if status < 300 {
                self.confirmed.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.history.answered(key, answer, true);
    }
}
