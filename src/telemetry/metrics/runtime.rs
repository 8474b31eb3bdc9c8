//! What the workers know of themselves, read when somebody scrapes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::runtime::RuntimeMetrics;

use super::process::put;
use crate::workers::Workers;

/// The threads and their tasks.
#[derive(Debug)]
pub(super) struct Runtime(pub(super) Arc<Workers>);

type Read = fn(&RuntimeMetrics) -> usize;

const SUMS: [(&str, &str, Read); 3] = [
    ("runtime_workers", "Worker threads", |worker| {
        worker.num_workers()
    }),
    (
        "runtime_tasks_alive",
        "Tasks that have not ended",
        |worker| worker.num_alive_tasks(),
    ),
    (
        "runtime_global_queue_depth",
        "Tasks that are ready and wait for their worker",
        |worker| worker.global_queue_depth(),
    ),
];

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let workers = self.0.all();
        let runtimes: Vec<RuntimeMetrics> =
            workers.iter().map(|of| of.runtime().metrics()).collect();
        for (name, help, read) in SUMS {
            let sum: usize = runtimes.iter().map(read).sum();
            put(&mut encoder, name, help, None, &gauge(sum))?;
        }
        // A connection stays with its worker, so one may have too much to do while others have nothing.
        let busy = runtimes.iter().map(|of| of.worker_total_busy_duration(0));
        let busy = busy.map(|busy| ConstCounter::new(busy.as_secs_f64()));
        let help = "Time in which the worker had work";
        let unit = Some(&Unit::Seconds);
        each(&mut encoder, "runtime_worker_busy", help, unit, busy)?;
        let connections = workers.iter().map(|worker| gauge(worker.connections()));
        let help = "Connections to the data listeners that the worker has";
        each(
            &mut encoder,
            "runtime_worker_connections",
            help,
            None,
            connections,
        )
    }
}

fn gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// One metric a worker, in the order of their numbers.
fn each<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metrics: impl Iterator<Item = M>,
) -> Result<(), fmt::Error> {
    let mut metrics = metrics.enumerate().peekable();
    let Some((_, first)) = metrics.peek() else {
        return Ok(());
    };
    let mut family = encoder.encode_descriptor(name, help, unit, first.metric_type())?;
    for (number, metric) in metrics {
        metric.encode(family.encode_family(&[("worker", number)])?)?;
    }
    Ok(())
}
