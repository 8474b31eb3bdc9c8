//! How traces get to a collector, and what the environment of all OpenTelemetry programs changes.

use std::time::{Duration, Instant};

use crate::harness::bridge::{Bridge, Builder};
use crate::harness::otlp::Collector;
use crate::harness::{Nats, SOON, eventually};

fn traced(nats: &Nats, endpoint: &str) -> Builder {
    Bridge::builder()
        .nats(nats)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_TRACES_SAMPLER", "always_on")
}

async fn publish(bridge: &Bridge) {
    bridge.post("/v1/publish/a").send().await.expect(204);
}

fn lines_with(bridge: &Bridge, text: &str) -> usize {
    let log = bridge.log();
    let holds =
        |line: &&serde_json::Value| line["msg"].as_str().is_some_and(|msg| msg.contains(text));
    log.iter().filter(holds).count()
}

#[tokio::test]
async fn spans_are_compressed_where_the_environment_says_so() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let builder = traced(&nats, &collector.url());
    let bridge = builder
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .start()
        .await;
    publish(&bridge).await;
    collector.span("publish").await;
    assert!(
        collector
            .encodings()
            .iter()
            .all(|encoding| encoding == "gzip")
    );
}

#[tokio::test]
async fn what_natsway_does_not_know_in_the_environment_costs_a_warning() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let builder = traced(&nats, &collector.url())
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "soon");
    let bridge = builder.start().await;
    publish(&bridge).await;
    collector.span("publish").await;
    assert_eq!(collector.encodings(), [""]);
    assert_eq!(lines_with(&bridge, "natsway knows"), 2);
}

#[tokio::test]
async fn an_endpoint_that_is_none_costs_the_traces_and_not_the_start() {
    let nats = Nats::start().await;
    for endpoint in [
        "collector:4318",
        "http://u:s3cret@bad host:1",
        "grpc://u:s3cret@c:4317",
    ] {
        let bridge = traced(&nats, endpoint).start().await;
        publish(&bridge).await;
        assert_eq!(lines_with(&bridge, "no traces are sent"), 1, "{endpoint}");
        let log = format!("{:?}", bridge.log());
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[tokio::test]
async fn the_configuration_is_asked_for_the_share_before_the_environment() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let builder = traced(&nats, &collector.url());
    let silent = builder
        .yaml("telemetry: { traces: { sample: 0 } }")
        .start()
        .await;
    publish(&silent).await;
    silent.sigterm();
    silent.wait_exit(SOON).await;
    assert_eq!(collector.asked(), 0);
    let bridge = traced(&nats, &collector.url()).start().await;
    publish(&bridge).await;
    collector.span("publish").await;
}

#[tokio::test]
async fn a_batch_is_given_up_after_the_timeout_of_the_environment() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    collector.answers_never();
    let builder = traced(&nats, &collector.url());
    let bridge = builder
        .env("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "200")
        .start()
        .await;
    let begun = Instant::now();
    publish(&bridge).await;
    let failed = [("result", "failed")];
    bridge
        .metric_becomes("natsway_traces_spans_total", &failed, |spans| spans >= 2.0)
        .await;
    // Ten seconds without it, and one to gather.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        bridge.metric("natsway_traces_spans_waiting", &[]).await,
        0.0
    );
}

#[tokio::test]
async fn spans_that_wait_are_measured() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    collector.answers_never();
    let bridge = traced(&nats, &collector.url()).start().await;
    publish(&bridge).await;
    eventually(SOON, "a batch is under way", async || collector.asked() > 0).await;
    publish(&bridge).await;
    bridge
        .metric_becomes("natsway_traces_spans_waiting", &[], |spans| spans == 2.0)
        .await;
}

#[tokio::test]
async fn a_collector_with_tls_is_trusted_by_its_authority_and_not_without() {
    let (nats, (collector, authority)) = (Nats::start().await, Collector::start_tls().await);
    let builder = traced(&nats, &collector.url());
    let stranger = builder.start().await;
    for batch in 1..=2 {
        publish(&stranger).await;
        let enough = f64::from(batch) * 2.0;
        let failed = [("result", "failed")];
        stranger
            .metric_becomes("natsway_traces_spans_total", &failed, |spans| {
                spans >= enough
            })
            .await;
    }
    assert_eq!(lines_with(&stranger, "takes no traces"), 1);
    assert!(collector.spans().is_empty());
    let file = authority.path().to_str().unwrap();
    let builder = traced(&nats, &collector.url()).env("SSL_CERT_FILE", file);
    let bridge = builder.start().await;
    publish(&bridge).await;
    collector.span("publish").await;
    assert_eq!(lines_with(&bridge, "takes no traces"), 0);
}
