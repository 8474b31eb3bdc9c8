//! Publishing at a rate, with every answer noted and judged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::history::History;
use crate::harness::{Answer, Bridge, Client, soak};

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

/// What may come on top of a deadline: a busy machine is not NATS's fault, and `make soak` has the
/// machine for itself.
fn late() -> Duration {
    soak(Duration::from_secs(1), Duration::from_millis(100))
}

/// The share of the wanted rate that must have been asked for, or the test shows less than it says.
fn fair_share() -> f64 {
    soak(0.25, 0.9)
}

/// A load under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    shape: Shape,
    notes: Arc<Notes>,
    task: tokio::task::JoinHandle<()>,
}

/// What came of it so far.
#[derive(Default)]
struct Notes {
    history: Arc<History>,
    attempted: AtomicU64,
    /// What would have been attempted had there been room for all.
    wanted: AtomicU64,
    confirmed: AtomicU64,
    slowest_us: AtomicU64,
    /// Answers that no caller should get, and the lack of one.
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// Publishes `rate_hz` messages a second, each with a key of its own, until stopped.
    pub(crate) fn start(bridge: &Bridge, rate_hz: u32, shape: Shape) -> Self {
        let (stop, notes) = (Arc::<AtomicBool>::default(), Arc::<Notes>::default());
        let publisher = Publisher {
            client: bridge.client(),
            shape: shape.clone(),
            notes: Arc::clone(&notes),
        };
        let task = tokio::spawn(publisher.run(f64::from(rate_hz), Arc::clone(&stop)));
        Self {
            stop,
            shape,
            notes,
            task,
        }
    }

    /// Stops, waits for every answer, and judges them: each came in time, none was missing, and each
    /// that was no success says honestly what became of its message.
    pub(crate) async fn finish(self) -> Arc<History> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the load does not panic");
        let notes = &self.notes;
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let slowest = Duration::from_micros(of(&notes.slowest_us));
        eprintln!(
            "{}: {} of {} attempted, {} confirmed, the slowest after {slowest:?}",
            self.shape.subject,
            of(&notes.attempted),
            of(&notes.wanted),
            of(&notes.confirmed),
        );
        let wrong = notes.wrong.lock().expect("no holder panics");
        assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), wrong[0]);
        assert!(slowest < self.shape.timeout + late(), "{slowest:?}");
        Arc::clone(&notes.history)
    }

    /// Fails where much less was asked for than wanted.
    pub(crate) fn assert_offered(&self) {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst) as f64;
        let (attempted, wanted) = (of(&self.notes.attempted), of(&self.notes.wanted));
        let share = attempted / wanted;
        assert!(share >= fair_share(), "{attempted} of {wanted}");
    }

    /// Waits until another `n` publishes were confirmed.
    pub(crate) async fn flows(&self, n: u64, within: Duration) {
        let confirmed = || self.notes.confirmed.load(Ordering::SeqCst);
        let target = confirmed() + n;
        crate::harness::eventually(within, "publishes are confirmed again", async || {
            confirmed() >= target
        })
        .await;
    }
}

#[derive(Clone)]
struct Publisher {
    client: Client,
    shape: Shape,
    notes: Arc<Notes>,
}

/// Requests under way at once, at most: a stalled server must not grow the test, nor the short form
/// take a busy machine from those it tests.
fn under_way_max() -> usize {
    soak(64, 2048)
}

impl Publisher {
    /// Goes by the clock, so that a late turn is made up for; what finds no room is left out.
    async fn run(self, rate_hz: f64, stop: Arc<AtomicBool>) {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let mut under_way = JoinSet::new();
        let mut wanted = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() * rate_hz) as u64;
            for number in wanted..due {
                if under_way.len() < under_way_max() {
                    under_way.spawn(self.clone().publish(number));
                }
            }
            wanted = due;
            self.notes.wanted.store(wanted, Ordering::SeqCst);
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
        self.notes.attempted.fetch_add(1, Ordering::SeqCst);
        self.notes.history.attempt(&key);
        let asked = Instant::now();
        let answer = request.try_send().await;
        let took = asked.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        self.notes.slowest_us.fetch_max(took, Ordering::SeqCst);
        let judged = match &answer {
            Ok(answer) => judge(answer, self.shape.with_key),
            Err(error) => Err(format!("no answer: {error:?}")),
        };
        match judged {
            Ok(true) => drop(self.notes.confirmed.fetch_add(1, Ordering::SeqCst)),
            Ok(false) => {}
            Err(wrong) => self.notes.wrong.lock().unwrap().push(wrong),
        }
        let history = &self.notes.history;
        history.answered(&key, answer.as_ref().ok(), true);
    }
}

/// Whether a publish succeeded; an error where the answer is none that a caller may get while NATS
/// comes and goes. Whether what it says is true is for the history.
fn judge(answer: &Answer, with_key: bool) -> Result<bool, String> {
    let status = answer.status.as_u16();
    if status < 300 {
        return Ok(true);
    }
    let problem = answer.problem();
    let word = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let is_known = match (status, &*word("code")) {
        (503, "nats-disconnected" | "jetstream-unavailable") => true,
        (503, "overloaded") => word("outcome") == "not_sent",
        (504, "publish-outcome-unknown" | "reply-timeout") => word("outcome") == "unknown",
        _ => false,
    };
    let retryable = match &*word("outcome") {
        "not_sent" => true,
        "unknown" => with_key,
        _ => return Err(problem.to_string()),
    };
    if is_known && problem["retryable"] == Value::Bool(retryable) {
        return Ok(false);
    }
    Err(problem.to_string())
}
