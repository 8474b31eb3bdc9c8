//! What each verb tells a collector of the messages it moves.

mod batches;
mod deliveries;
mod jetstream;
mod multiplex;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::harness::otlp::{Collector, attribute, hex};
use crate::harness::{Bridge, Nats, Python, SOON};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const OTHER_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_SPAN: &str = "00f067aa0ba902b7";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// Of somebody else.
fn other(flags: &str) -> String {
    format!("00-{OTHER_TRACE}-{OTHER_SPAN}-{flags}")
}

async fn traced(nats: &Nats, collector: &Collector, traces: &str) -> Bridge {
    Bridge::builder()
        .nats(nats)
        .yaml(&format!("telemetry: {{ traces: {{ {traces} }} }}"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .start()
        .await
}

fn assert_says(span: &Span, kind: SpanKind, attributes: &[(&str, &str)]) {
    assert_eq!(span.kind, kind as i32, "{span:?}");
    assert_eq!(attribute(span, "messaging.system"), "nats");
    for (name, value) in attributes {
        assert_eq!(attribute(span, name), *value, "{name} of {span:?}");
    }
}

fn links(span: &Span) -> Vec<(String, String)> {
    let links = span.links.iter();
    links
        .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
        .collect()
}

fn is_of(span: &Span, trace: &str, parent: &str) -> bool {
    hex(&span.trace_id) == trace && hex(&span.parent_span_id) == parent
}

fn named(collector: &Collector, name: &str) -> Vec<Span> {
    let mut spans = collector.spans();
    spans.retain(|span| span.name == name);
    spans
}

/// Ends natsway, so that all its spans are there.
async fn ended(bridge: &Bridge) {
    bridge.sigterm();
    bridge.wait_exit(SOON).await;
}

/// Answers, and tells the collector of it in protobuf written by hand, as no library of ours would.
const RESPONDER: &str = "
import os, time, urllib.request
def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data
def fixed(number, value):
    return varint(number << 3 | 1) + value.to_bytes(8, 'little')
def export(trace, parent, own, begun):
    span = field(1, trace) + field(2, own) + field(4, parent) + field(5, b'answer')
    span += varint(6 << 3) + varint(2) + fixed(7, begun) + fixed(8, time.time_ns())
    name = field(1, b'service.name') + field(2, field(1, b'responder'))
    body = field(1, field(1, field(1, name)) + field(2, field(2, span)))
    head = {'content-type': 'application/x-protobuf'}
    urllib.request.urlopen(urllib.request.Request(COLLECTOR + '/v1/traces', body, head)).read()
async def answer(msg):
    begun = time.time_ns()
    version, trace, parent, flags = msg.headers['traceparent'].split('-')
    own = os.urandom(8)
    context = '-'.join([version, trace, own.hex(), flags])
    await nc.publish(msg.reply, b'x', headers={'Traceparent': context})
    await asyncio.to_thread(export, bytes.fromhex(trace), bytes.fromhex(parent), own, begun)
await nc.subscribe('orders.get', cb=answer)
await ready()
await asyncio.Event().wait()
";

#[tokio::test]
async fn a_collector_sees_the_whole_trace_of_a_request_with_the_responders_own_span() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let responder = format!("\nCOLLECTOR = '{}'{RESPONDER}", collector.url());
    let _responder = Python::start(&nats, &responder).await;
    let bridge = traced(&nats, &collector, "sample: 1").await;
    let ask = bridge.post("/v1/request/orders.get");
    let answer = ask
        .header("traceparent", &parent("01"))
        .send()
        .await
        .expect(200);
    let server = collector.span("POST /v1/request/{subject}").await;
    let request = collector.span("request").await;
    let served = collector.span("answer").await;
    assert!(is_of(&server, TRACE, SPAN));
    assert!(is_of(&request, TRACE, &hex(&server.span_id)));
    assert!(is_of(&served, TRACE, &hex(&request.span_id)));
    assert_eq!(served.kind, SpanKind::Server as i32);
    let back = format!("00-{TRACE}-{}-01", hex(&served.span_id));
    assert_eq!(answer.header("traceparent"), Some(back.as_str()));
    let mut services = collector.services();
    services.sort_unstable();
    services.dedup();
    assert_eq!(services, ["natsway", "responder"]);
}

#[tokio::test]
async fn a_collector_sees_the_whole_trace_from_a_publish_to_a_stream() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let mut stream = bridge.sse("/v1/subscribe/orders.*").await.expect_ok();
    let publish = bridge.post("/v1/publish/orders.new").body("x");
    let publish = publish.header("traceparent", &parent("01"));
    publish.send().await.expect(204);
    stream.event().await.unwrap();
    let server = collector.span("POST /v1/publish/{subject}").await;
    let published = collector.span("publish").await;
    let delivered = collector.span("stream").await;
    assert!(is_of(&server, TRACE, SPAN));
    assert!(is_of(&published, TRACE, &hex(&server.span_id)));
    assert!(is_of(&delivered, TRACE, &hex(&published.span_id)));
    assert!(published.start_time_unix_nano <= delivered.start_time_unix_nano);
}
