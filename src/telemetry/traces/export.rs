//! From spans to the collector. A span is put into a bounded queue and forgotten; when the queue is full,
//! because the collector is slow or dead, it is counted and dropped, and as long as it is full no span is
//! recorded at all. Nobody ever waits for a collector.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::Sending;
use super::client::Client;
use super::envelope::Envelope;
use super::wire;
use crate::telemetry::metrics::TraceCounters;

/// Spans that may wait, some 1 MiB.
const QUEUE: usize = 2048;
/// Spans that are sent together.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Where ended spans go.
#[derive(Clone, Debug)]
pub(super) struct Exporter(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// There is a first one, or a batch is full, or there will be no more.
    changed: Notify,
    is_full: AtomicBool,
    counters: TraceCounters,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    count: usize,
    is_closed: bool,
}

/// Encoded spans, each as a field of `ScopeSpans`.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) spans: Vec<u8>,
    count: usize,
}

impl Exporter {
    /// Whether a span that is recorded has a chance to be sent.
    pub(super) fn has_room(&self) -> bool {
        !self.0.is_full.load(Ordering::Relaxed)
    }

    /// Counts a span that was not recorded, for want of room.
    pub(super) fn miss(&self) {
        self.0.counters.dropped.inc();
    }

    /// Takes an encoded span, or drops it.
    pub(super) fn push(&self, span: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.is_closed || waiting.count >= QUEUE {
            return self.miss();
        }
        let is_notable = waiting.push(span);
        self.0.show(&waiting);
        drop(waiting);
        if is_notable {
            self.0.changed.notify_one();
        }
    }

    /// Counts a span that was not made.
    pub(super) fn skip(&self) {
        self.0.counters.skipped.inc();
    }

    fn close(&self) {
        self.0.waiting.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Waiting {
    /// Whether it is the first one, or fills a batch.
    fn push(&mut self, span: &[u8]) -> bool {
        self.count += 1;
        let has_room = |batch: &Batch| batch.count < BATCH;
        if !self.batches.back().is_some_and(has_room) {
            self.batches.push_back(Batch::default());
        }
        let Some(batch) = self.batches.back_mut() else {
            return false;
        };
        wire::bytes(&mut batch.spans, 2, span);
        batch.count += 1;
        self.count == 1 || batch.count == BATCH
    }

    fn has(&self, spans: usize) -> bool {
        self.is_closed
            || self
                .batches
                .front()
                .is_some_and(|batch| batch.count >= spans)
    }
}

impl Queue {
    /// A batch, once it is full or its first span has waited long enough; none at the end.
    async fn next(&self) -> Option<Batch> {
        self.has(1).await;
        let _full_or_late = timeout(GATHER, self.has(BATCH)).await;
        let mut waiting = self.waiting.lock();
        let batch = waiting.batches.pop_front()?;
        waiting.count -= batch.count;
        self.show(&waiting);
        Some(batch)
    }

    async fn has(&self, spans: usize) {
        loop {
            if self.waiting.lock().has(spans) {
                return;
            }
            self.changed.notified().await;
        }
    }

    /// A while in which nothing is sent, unless it is the end.
    async fn pause(&self) {
        let closed = async {
            while !self.waiting.lock().is_closed {
                self.changed.notified().await;
            }
        };
        let _over_or_closed = timeout(PAUSE, closed).await;
    }

    fn show(&self, waiting: &Waiting) {
        let count = i64::try_from(waiting.count).unwrap_or_default();
        self.counters.waiting.set(count);
        self.is_full
            .store(waiting.count >= QUEUE, Ordering::Relaxed);
    }
}

/// The task that sends.
#[derive(Debug)]
pub(super) struct Task {
    exporter: Exporter,
    task: JoinHandle<()>,
}

impl Task {
    /// Starts it.
    pub(super) fn start(sending: Sending, counters: TraceCounters) -> Self {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            changed: Notify::new(),
            is_full: AtomicBool::new(false),
            counters: counters.clone(),
        });
        let collector = Collector {
            timeout: sending.timeout,
            client: Client::new(sending),
            envelope: Envelope::new(),
            counters,
            is_failing: false,
        };
        let task = tokio::spawn(send(Arc::clone(&queue), collector));
        Self {
            exporter: Exporter(queue),
            task,
        }
    }

    pub(super) fn exporter(&self) -> Exporter {
        self.exporter.clone()
    }

    /// Sends what waits, until the deadline.
    pub(super) async fn end(&mut self, deadline: Instant) {
        self.exporter.close();
        if timeout_at(deadline, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(queue: Arc<Queue>, mut collector: Collector) {
    while let Some(batch) = queue.next().await {
        collector.take(&batch).await;
        if collector.is_failing {
            queue.pause().await;
        }
    }
}

struct Collector {
    client: Client,
    envelope: Envelope,
    counters: TraceCounters,
    timeout: Duration,
    is_failing: bool,
}

impl Collector {
    /// One line when it begins to fail, and one when it is well again.
    async fn take(&mut self, batch: &Batch) {
        let count = batch.count as u64;
        let body = self.envelope.around(batch);
        let error = match timeout(self.timeout, self.client.post(body)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        match &error {
            None => self.counters.exported.inc_by(count),
            Some(_) => self.counters.failed.inc_by(count),
        };
        match &error {
            Some(error) if !self.is_failing => tracing::warn!(
                error,
                "the collector takes no traces; they are counted and dropped until it does"
            ),
            None if self.is_failing => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        self.is_failing = error.is_some();
    }
}
