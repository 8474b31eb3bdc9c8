//! Traces that cross HTTP and NATS, seen by a collector.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::harness::otlp::{Collector, attribute, hex};
use crate::harness::{Bridge, Nats, Python, SOON, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A natsway that traces to this collector.
async fn traced(nats: &Nats, collector: &Collector, traces: &str) -> Bridge {
    Bridge::builder()
        .nats(nats)
        .yaml(&format!(
            "telemetry: {{ traces: {{ {traces} }}, log: {{ access: all }} }}"
        ))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .start()
        .await
}

async fn openmetrics(bridge: &Bridge) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client
        .get(format!("http://{}/metrics", bridge.admin()))
        .header("accept", "application/openmetrics-text;version=1.0.0")
        .send()
        .await
        .unwrap();
    page.text().await.unwrap()
}

/// Answers with the headers it got, and continues the trace with a span of its own.
const RESPONDER: &str = "
async def answer(msg):
    version, trace, span, flags = msg.headers['traceparent'].split('-')
    own = '-'.join([version, trace, '00f067aa0ba902b7', flags])
    body = ' '.join([msg.headers['traceparent'], msg.headers.get('tracestate', ''), msg.headers.get('baggage', '')])
    await nc.publish(msg.reply, body.encode(), headers={'traceparent': own})
await nc.subscribe('orders.get', cb=answer)
await ready()
await asyncio.Event().wait()
";

#[tokio::test]
async fn one_trace_goes_from_the_client_through_nats_to_the_responder_and_back() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let _responder = Python::start(&nats, RESPONDER).await;
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let answer = bridge
        .post("/v1/request/orders.get")
        .header("traceparent", &parent("01"))
        .header("tracestate", "vendor=1")
        .header("baggage", "tenant=7")
        .header("x-request-id", "r-1")
        .send()
        .await
        .expect(200);

    let server = collector.span("POST /v1/request/{subject}").await;
    let request = collector.span("request").await;
    assert_eq!(hex(&server.trace_id), TRACE);
    assert_eq!(hex(&server.parent_span_id), SPAN);
    assert_eq!(server.kind, SpanKind::Server as i32);
    assert_eq!(request.trace_id, server.trace_id);
    assert_eq!(request.parent_span_id, server.span_id);
    assert_eq!(request.kind, SpanKind::Client as i32);

    let injected = format!("00-{TRACE}-{}-01", hex(&request.span_id));
    assert_eq!(answer.text(), format!("{injected} vendor=1 tenant=7"));
    let continued = format!("00-{TRACE}-00f067aa0ba902b7-01");
    assert_eq!(answer.header("traceparent"), Some(continued.as_str()));

    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/request/{subject}"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("natsway.route", "request"),
        ("natsway.request_id", "r-1"),
    ] {
        assert_eq!(attribute(&server, name), value, "{name}");
    }
    for (name, value) in [
        ("messaging.system", "nats"),
        ("messaging.operation.name", "request"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "orders.get"),
    ] {
        assert_eq!(attribute(&request, name), value, "{name}");
    }
    assert!(server.start_time_unix_nano <= request.start_time_unix_nano);
    assert!(request.end_time_unix_nano <= server.end_time_unix_nano);
    assert_eq!(collector.services(), ["natsway"]);
    let exemplar = format!("# {{trace_id=\"{TRACE}\"}}");
    assert!(openmetrics(&bridge).await.contains(&exemplar));

    eventually(SOON, "the log names the span", async || {
        let own = hex(&server.span_id);
        let mut lines = bridge.log().into_iter();
        lines.any(|line| line["trace_id"] == TRACE && line["span_id"] == own.as_str())
    })
    .await;
}

#[tokio::test]
async fn a_published_message_carries_its_trace_into_a_stream() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    let mut stream = bridge
        .get("/v1/subscribe/orders.*")
        .header("traceparent", &parent("00"))
        .stream()
        .await
        .expect_ok();
    bridge
        .post("/v1/publish/orders.new")
        .body("x")
        .send()
        .await
        .expect(204);
    let message = stream.event().await.unwrap().json();
    let publish = collector.span("publish").await;
    assert_eq!(publish.kind, SpanKind::Producer as i32);
    let injected = format!("00-{}-{}-01", hex(&publish.trace_id), hex(&publish.span_id));
    assert_eq!(
        message["headers"]["traceparent"][0],
        injected.as_str(),
        "{message}"
    );
    let server = collector.span("POST /v1/publish/{subject}").await;
    assert_eq!(publish.parent_span_id, server.span_id);
    assert!(server.parent_span_id.is_empty());
}

#[tokio::test]
async fn an_unsampled_request_has_no_span_and_its_bytes_are_untouched() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    let mut stream = bridge
        .get("/v1/subscribe/a")
        .header("traceparent", &parent("00"))
        .stream()
        .await
        .expect_ok();
    // A version and a flag of the future.
    let strange = format!("07-{TRACE}-{SPAN}-fe-later");
    bridge
        .post("/v1/publish/a")
        .header("traceparent", &strange)
        .header("tracestate", "b=2,a=1")
        .send()
        .await
        .expect(204);
    let message = stream.event().await.unwrap().json();
    assert_eq!(
        message["headers"]["traceparent"][0],
        strange.as_str(),
        "{message}"
    );
    assert_eq!(message["headers"]["tracestate"][0], "b=2,a=1");
    bridge.post("/v1/publish/after").send().await.expect(204);
    collector.span("publish").await;
    assert_eq!(collector.spans().len(), 2, "those of the last request only");
}

#[tokio::test]
async fn a_caller_who_is_not_trusted_decides_nothing() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1, trust: link").await;
    bridge
        .post("/v1/publish/a")
        .header("traceparent", &parent("00"))
        .send()
        .await
        .expect(204);
    let server = collector.span("POST /v1/publish/{subject}").await;
    assert_ne!(hex(&server.trace_id), TRACE);
    assert_eq!(server.links.len(), 1);
    assert_eq!(hex(&server.links[0].trace_id), TRACE);

    let bridge = traced(&nats, &collector, "sample: 0, trust: ignore").await;
    let mut stream = bridge.sse("/v1/subscribe/b").await.expect_ok();
    bridge
        .post("/v1/publish/b")
        .header("traceparent", &parent("01"))
        .header("tracestate", "a=1")
        .send()
        .await
        .expect(204);
    let message = stream.event().await.unwrap().json();
    assert!(message["headers"].get("traceparent").is_none(), "{message}");
    assert!(message["headers"].get("tracestate").is_none(), "{message}");
}

#[tokio::test]
async fn what_fails_says_so_and_what_was_never_sent_has_no_span() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    bridge
        .post("/v1/request/nobody")
        .send()
        .await
        .expect_problem(503, "no-responders");
    for name in ["request", "POST /v1/request/{subject}"] {
        let span = collector.span(name).await;
        assert_eq!(attribute(&span, "error.type"), "no-responders");
        assert_eq!(span.status.unwrap().code, StatusCode::Error as i32);
    }
    bridge
        .post("/v1/publish/a?confirm=maybe")
        .send()
        .await
        .expect_problem(400, "invalid-parameter");
    let refused = collector.span("POST /v1/publish/{subject}").await;
    assert_eq!(attribute(&refused, "http.response.status_code"), "400");
    assert_eq!(
        refused.status.unwrap_or_default().code,
        StatusCode::Unset as i32
    );
    assert!(collector.spans().iter().all(|span| span.name != "publish"));
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_traced() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "telemetry: { traces: { sample: 1 } }").await;
    let mut stream = bridge.sse("/v1/subscribe/a").await.expect_ok();
    bridge
        .post("/v1/publish/a")
        .header("traceparent", &parent("01"))
        .send()
        .await
        .expect(204);
    let message = stream.event().await.unwrap().json();
    assert_eq!(message["headers"]["traceparent"][0], parent("01").as_str());
    let metrics = bridge.metrics().await;
    let spans = metrics.get("natsway_traces_spans_total", &[]);
    assert_eq!(spans, Some(0.0));
}

async fn publish(bridge: &Bridge) {
    bridge.post("/v1/publish/a").send().await.expect(204);
}

#[tokio::test]
async fn a_dead_collector_is_one_line_and_a_counter() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    collector.answers(500);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    let failed = [("result", "failed")];
    for batch in 1..=3 {
        publish(&bridge).await;
        let enough = f64::from(batch) * 2.0;
        bridge
            .metric_becomes("natsway_traces_spans_total", &failed, |spans| {
                spans >= enough
            })
            .await;
    }
    let said = |text: &str| {
        let log = bridge.log();
        let lines = log
            .iter()
            .filter(|line| line["msg"].as_str().is_some_and(|msg| msg.contains(text)));
        lines.count()
    };
    assert!(collector.asked() >= 3);
    assert_eq!(said("takes no traces"), 1);
    collector.answers(200);
    publish(&bridge).await;
    bridge.logs("takes traces again").await;
    assert_eq!(said("takes no traces"), 1);
}

#[tokio::test]
async fn a_collector_that_never_answers_delays_nobody() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    collector.answers_never();
    let bridge = traced(&nats, &collector, "sample: 1").await;
    publish(&bridge).await;
    eventually(SOON, "a batch is under way", async || collector.asked() > 0).await;
    for _ in 0..1500 {
        publish(&bridge).await;
    }
    bridge
        .metric_becomes(
            "natsway_traces_spans_total",
            &[("result", "dropped")],
            |spans| spans > 0.0,
        )
        .await;
    let begun = Instant::now();
    bridge.sigterm();
    let status = bridge.wait_exit(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    // Two seconds, and what a machine under load adds; the sending alone would take ten.
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn what_waits_is_sent_before_the_end() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    publish(&bridge).await;
    bridge.sigterm();
    bridge.wait_exit(Duration::from_secs(30)).await;
    collector.span("publish").await;
}
