//! From spans to the collector. A span is put into a bounded queue and forgotten; when the queue is full,
//! because the collector is slow or dead, it is counted and dropped. Nobody ever waits for a collector.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::{
    Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::Sending;
use super::client::Client;
use crate::telemetry::metrics::TraceCounters;

/// Spans that may wait, some 2 MiB.
const QUEUE: usize = 2048;
/// Spans that are sent together.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// Where ended spans go.
#[derive(Clone, Debug)]
pub(super) struct Exporter(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    /// Gone once natsway is ending.
    sender: Mutex<Option<mpsc::Sender<SpanData>>>,
    counters: TraceCounters,
}

impl Exporter {
    /// Takes a span, or drops it.
    pub(super) fn push(&self, span: SpanData) {
        let sender = self.0.sender.lock();
        let counters = &self.0.counters;
        // Before it is there, or it could be taken first.
        counters.waiting.inc();
        let has_room = sender
            .as_ref()
            .is_some_and(|sender| sender.try_send(span).is_ok());
        if !has_room {
            counters.waiting.dec();
            counters.dropped.inc();
        }
    }

    /// Counts a span that was not made.
    pub(super) fn skip(&self) {
        self.0.counters.skipped.inc();
    }

    fn close(&self) {
        self.0.sender.lock().take();
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
    pub(super) fn start(sending: &Sending, counters: TraceCounters) -> Option<Self> {
        // Its own retries would put the thread to sleep.
        let otlp = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new())
            .with_endpoint(sending.endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(sending.timeout)
            .with_retry_policy(RetryPolicy::disabled())
            .build();
        // Its error may quote the endpoint, and with it a password.
        let mut otlp = otlp.ok()?;
        otlp.set_resource(&resource());
        let (sender, receiver) = mpsc::channel(QUEUE);
        let collector = Collector {
            otlp,
            counters: counters.clone(),
            timeout: sending.timeout,
            is_failing: false,
        };
        let task = tokio::spawn(send(receiver, collector));
        let queue = Queue {
            sender: Mutex::new(Some(sender)),
            counters,
        };
        Some(Self {
            exporter: Exporter(Arc::new(queue)),
            task,
        })
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

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say who this is; without them, `natsway` does.
fn resource() -> Resource {
    let names = |name| std::env::var(name).unwrap_or_default();
    let named = !names("OTEL_SERVICE_NAME").is_empty()
        || names("OTEL_RESOURCE_ATTRIBUTES").contains("service.name=");
    let builder = Resource::builder();
    match named {
        true => builder.build(),
        false => builder.with_service_name("natsway").build(),
    }
}

async fn send(mut queue: mpsc::Receiver<SpanData>, mut collector: Collector) {
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        let gathering = async {
            while batch.len() < BATCH
                && let Some(span) = queue.recv().await
            {
                batch.push(span);
            }
        };
        let _full_or_late = timeout(GATHER, gathering).await;
        let taken = i64::try_from(batch.len()).unwrap_or_default();
        collector.counters.waiting.dec_by(taken);
        collector.take(batch).await;
    }
}

struct Collector {
    otlp: SpanExporter,
    counters: TraceCounters,
    timeout: Duration,
    is_failing: bool,
}

impl Collector {
    /// One line when it begins to fail, and one when it is well again.
    async fn take(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let error = match timeout(self.timeout, self.otlp.export(batch)).await {
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
