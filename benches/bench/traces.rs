//! What traces cost: processor time where they are configured, and latency where the collector fails.

use std::time::Duration;

use crate::http_load::{self, Found};
use crate::process::{Process, cpu_us};
use crate::report::Report;

/// Few percent are asked for, so more rounds than elsewhere, each a ratio of its own.
const ROUNDS: usize = 10;
const CONNECTIONS: usize = 64;
const PATH: &str = "/v1/publish/bench.traces";
const BODY: [u8; 128] = [b'x'; 128];

const UNSAMPLED: &str = "traces, not sampled / without";
const SAMPLED: &str = "traces, sampled / without";

/// What a collector does, as `serve-collector` calls it.
const COLLECTORS: [&str; 4] = ["ok", "black-hole", "slow", "500"];

struct Traced {
    natsway: Process,
    _collector: Process,
}

impl Traced {
    fn start(nats: &str, collector: &str) -> Self {
        let collector = Process::role(&["serve-collector", collector]);
        let yaml = format!(
            "telemetry: {{ traces: {{ otlp_endpoint: \"http://{}\", sample: 0 }} }}",
            collector.address
        );
        Self {
            natsway: Process::natsway(nats, &yaml),
            _collector: collector,
        }
    }
}

fn request(address: &str, flags: &str) -> Vec<u8> {
    let parent =
        format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\n");
    http_load::post(address, PATH, &parent, &BODY)
}

async fn flat_out(natsway: &Process, flags: &str, span: Duration) -> Found {
    let address = &natsway.address;
    let found = http_load::closed_loop(address, &request(address, flags), CONNECTIONS, span).await;
    assert_eq!(found.failed, 0, "every answer is a 2xx");
    found
}

async fn cpu_us_an_answer(natsway: &Process, flags: &str, span: Duration) -> f64 {
    let before = cpu_us(natsway.pid());
    let found = flat_out(natsway, flags, span).await;
    (cpu_us(natsway.pid()) - before) as f64 / found.answers as f64
}

async fn p99_us(natsway: &Process, rate_hz: f64, span: Duration) -> f64 {
    let address = &natsway.address;
    let request = request(address, "01");
    let found = http_load::open_loop(address, &request, CONNECTIONS, span, rate_hz).await;
    assert_eq!(found.failed, 0, "every answer is a 2xx");
    found.percentile_us(99)
}

fn late(collector: &str) -> String {
    format!("traces, collector {collector} / without, p99 at half rate")
}

/// Runs both cases. Which one goes first changes from round to round.
pub(crate) async fn run(nats: &Process, span: Duration, report: &mut Report) {
    let without = Process::natsway(&nats.address, "");
    let (unsampled, sampled) = (
        Traced::start(&nats.address, "ok"),
        Traced::start(&nats.address, "ok"),
    );
    for round in 0..ROUNDS {
        let mut each = [0.0; 3];
        for turn in 0..3 {
            let which = (round + turn) % 3;
            each[which] = match which {
                0 => cpu_us_an_answer(&without, "00", span).await,
                1 => cpu_us_an_answer(&unsampled.natsway, "00", span).await,
                _ => cpu_us_an_answer(&sampled.natsway, "01", span).await,
            };
        }
        report.add(UNSAMPLED, &[("cpu_ratio", each[1] / each[0])]);
        report.add(SAMPLED, &[("cpu_ratio", each[2] / each[0])]);
    }
    drop((unsampled, sampled));
    let half_hz = flat_out(&without, "00", span).await.rate_hz() / 2.0;
    let traced = COLLECTORS.map(|collector| (collector, Traced::start(&nats.address, collector)));
    for _ in 0..ROUNDS {
        let quiet = p99_us(&without, half_hz, span).await;
        for (collector, traced) in &traced {
            let failing = p99_us(&traced.natsway, half_hz, span).await;
            report.add(&late(collector), &[("p99_ratio", failing / quiet)]);
        }
    }
}

/// How the medians stand to what is promised.
pub(crate) fn targets(report: &mut Report) {
    for (what, limit) in [(UNSAMPLED, 1.03), (SAMPLED, 1.40)] {
        let median = report.median(what, "cpu_ratio");
        report.target(&format!("{what}, CPU"), median, limit, false);
    }
    // One that works is shown, too, and costs what spans cost.
    for collector in COLLECTORS.iter().filter(|collector| **collector != "ok") {
        let what = late(collector);
        let median = report.median(&what, "p99_ratio");
        report.target(&what, median, 1.25, false);
    }
}
