//! What each verb tells a collector of the messages it moves.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::harness::otlp::{Collector, attribute, hex};
use crate::harness::{Bridge, Nats, Python, SOON, eventually, eventually_some};

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

async fn stream_with_traces() -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    let client = nats.client().await;
    for name in ["traceparent", "Traceparent", "none"] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(name, other("00").as_str());
        let sent = client.publish_with_headers("s.a", headers, "x".into());
        sent.await.unwrap();
    }
    client.flush().await.unwrap();
    eventually(SOON, "all is stored", async || {
        nats.stream_state("S").await["messages"] == 3
    })
    .await;
    nats
}

const FETCH: &str = "/v1/streams/S/consumers/c/fetch?max=3&wait=5s";

async fn fetch(bridge: &Bridge, accept: &str, flags: &str) -> Vec<Value> {
    let request = bridge.post(FETCH).header("traceparent", &parent(flags));
    let answer = request.header("accept", accept).send().await.expect(200);
    match accept {
        "application/json" => {
            serde_json::from_value(answer.json()["messages"].take()).expect("a list")
        }
        _ => {
            let lines = answer.text().lines();
            lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }
}

#[tokio::test]
async fn a_fetch_is_one_span_that_is_linked_to_the_publishers() {
    for accept in ["application/json", "application/x-ndjson"] {
        let (nats, collector) = (stream_with_traces().await, Collector::start().await);
        let bridge = traced(&nats, &collector, "sample: 0").await;
        assert_eq!(fetch(&bridge, accept, "01").await.len(), 3);
        let span = collector.span("fetch").await;
        let says = [
            ("messaging.operation.name", "fetch"),
            ("messaging.operation.type", "receive"),
            ("messaging.destination.name", "S"),
            ("messaging.consumer.group.name", "c"),
            ("messaging.batch.message_count", "3"),
            ("nats.stream", "S"),
            ("nats.consumer", "c"),
        ];
        assert_says(&span, SpanKind::Client, &says);
        let route = "POST /v1/streams/{stream}/consumers/{consumer}/fetch";
        let server = collector.span(route).await;
        assert!(is_of(&span, TRACE, &hex(&server.span_id)));
        let publisher = (OTHER_TRACE.to_owned(), OTHER_SPAN.to_owned());
        assert_eq!(links(&span), [publisher.clone(), publisher]);
    }
}

#[tokio::test]
async fn an_unsampled_fetch_and_its_acks_have_no_span() {
    let (nats, collector) = (stream_with_traces().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    for message in fetch(&bridge, "application/json", "00").await {
        let token = message["ack"].as_str().unwrap();
        let ack = bridge.post(&format!("/v1/acks/{token}"));
        ack.header("traceparent", &parent("00"))
            .send()
            .await
            .expect(204);
    }
    ended(&bridge).await;
    assert_eq!(collector.spans().len(), 0, "{:?}", collector.spans());
}

#[tokio::test]
async fn whatever_is_said_about_a_message_is_a_span() {
    let (nats, collector) = (stream_with_traces().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let fetched = fetch(&bridge, "application/json", "00").await;
    let tokens: Vec<&str> = fetched.iter().map(|m| m["ack"].as_str().unwrap()).collect();
    for (kind, name) in [("progress", "wpi"), ("ack", "ack")] {
        let ack = bridge.post(&format!("/v1/acks/{}?kind={kind}", tokens[0]));
        ack.header("traceparent", &parent("01"))
            .send()
            .await
            .expect(204);
        let span = collector.span(name).await;
        let says = [
            ("messaging.operation.name", name),
            ("messaging.operation.type", "settle"),
            ("messaging.destination.name", "S"),
            ("messaging.consumer.group.name", "c"),
            ("messaging.message.id", "S:1"),
            ("nats.delivered", "1"),
        ];
        assert_says(&span, SpanKind::Client, &says);
        assert_eq!(hex(&span.trace_id), TRACE);
    }
    let many = json!({"acks": [{"token": tokens[1], "kind": "term"}, {"token": tokens[2], "kind": "nak"}]});
    bridge
        .post("/v1/acks")
        .header("traceparent", &parent("01"))
        .json(&many)
        .send()
        .await
        .expect(200);
    let span = collector.span("settle").await;
    assert_says(
        &span,
        SpanKind::Client,
        &[("messaging.batch.message_count", "2")],
    );
    let server = collector.span("POST /v1/acks").await;
    assert!(is_of(&span, TRACE, &hex(&server.span_id)));
    let all = format!("{:?}", collector.spans());
    for token in tokens {
        assert!(!all.contains(token), "{all}");
    }
}

#[tokio::test]
async fn a_batch_is_one_span_for_all_its_lines() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let mut spy = nats.raw().await;
    spy.subscribe("b.>").await;
    let own = json!({"subject": "b.own", "headers": {"Traceparent": other("00")}});
    let lines = format!("{{\"subject\":\"b.1\"}}\n{own}\n{{\"subject\":\"b.2\"}}\n{{\n");
    bridge
        .post("/v1/publish")
        .header("traceparent", &parent("01"))
        .header("tracestate", "a=1")
        .header("content-type", "application/x-ndjson")
        .body(lines)
        .send()
        .await;
    let span = collector.span("publish").await;
    let says = [
        ("messaging.operation.type", "send"),
        ("messaging.batch.message_count", "3"),
        ("messaging.destination.name", ""),
    ];
    assert_says(&span, SpanKind::Producer, &says);
    let server = collector.span("POST /v1/publish").await;
    assert!(is_of(&span, TRACE, &hex(&server.span_id)));
    assert_eq!(
        links(&span),
        [(OTHER_TRACE.to_owned(), OTHER_SPAN.to_owned())]
    );
    let common = format!("traceparent: 00-{TRACE}-{}-01\r\n", hex(&span.span_id));
    for _ in 0..3 {
        let message = spy.next().await.unwrap();
        let headers = message.header_text();
        if message.subject == "b.own" {
            assert!(
                headers.contains(&format!("traceparent: {}\r\n", other("00"))),
                "{headers}"
            );
            assert!(
                !headers.contains(TRACE) && !headers.contains("tracestate"),
                "{headers}"
            );
        } else {
            assert!(headers.contains(&common), "{headers}");
            assert!(headers.contains("tracestate: a=1"), "{headers}");
        }
    }
    assert_eq!(named(&collector, "publish").len(), 1);
}

#[tokio::test]
async fn a_batch_of_payloads_says_where_they_go_to() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    let publish = bridge
        .post("/v1/publish/b.lines?split=lines")
        .body("1\n2\n");
    publish.send().await.expect(200);
    let unsampled = bridge.post("/v1/publish/b.not?split=lines").body("1\n2\n");
    let unsampled = unsampled.header("traceparent", &parent("00"));
    unsampled.send().await.expect(200);
    ended(&bridge).await;
    let spans = named(&collector, "publish");
    assert_eq!(spans.len(), 1);
    let says = [
        ("messaging.destination.name", "b.lines"),
        ("messaging.batch.message_count", "2"),
    ];
    assert_says(&spans[0], SpanKind::Producer, &says);
}

/// A WebSocket that was opened with a sampled context.
async fn multiplexed(bridge: &Bridge) -> crate::harness::ws::Ws {
    let context = parent("01");
    let headers = [("traceparent", context.as_str())];
    let opened = crate::harness::ws::Ws::connect(bridge.address(), "/v1/ws", &headers).await;
    opened.unwrap_or_else(|error| panic!("it opens: {error}"))
}

#[tokio::test]
async fn what_is_done_over_a_websocket_is_linked_to_its_opening_or_has_its_own_parent() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 1").await;
    let mut spy = nats.raw().await;
    spy.subscribe("w.>").await;
    let mut ws = multiplexed(&bridge).await;
    ws.send(&json!({"op": "publish", "id": 1, "subject": "w.root"}))
        .await;
    assert_eq!(ws.next().await["op"], "ok");
    let span = collector.span("publish").await;
    assert_says(
        &span,
        SpanKind::Producer,
        &[("messaging.destination.name", "w.root")],
    );
    assert!(span.parent_span_id.is_empty());
    let opening = collector.span("GET /v1/ws").await;
    assert_eq!(links(&span), [(TRACE.to_owned(), hex(&opening.span_id))]);
    let root = format!(
        "traceparent: 00-{}-{}-01",
        hex(&span.trace_id),
        hex(&span.span_id)
    );
    let message = spy.next().await.unwrap();
    assert!(
        message.header_text().contains(&root),
        "{}",
        message.header_text()
    );

    let headers = json!({"traceparent": other("01"), "tracestate": "a=1"});
    ws.send(&json!({"op": "request", "id": 2, "subject": "w.ask", "headers": headers}))
        .await;
    let asked = spy.next().await.unwrap();
    let reply = asked.reply.clone().unwrap();
    spy.publish(&reply, b"").await;
    ws.next().await;
    let span = collector.span("request").await;
    assert_says(
        &span,
        SpanKind::Client,
        &[("messaging.destination.name", "w.ask")],
    );
    assert!(is_of(&span, OTHER_TRACE, OTHER_SPAN), "{span:?}");
    assert!(span.links.is_empty());
    let own = format!("traceparent: 00-{OTHER_TRACE}-{}-01", hex(&span.span_id));
    let sent = asked.header_text();
    assert!(
        sent.contains(&own) && sent.contains("tracestate: a=1"),
        "{sent}"
    );

    let headers = json!({"traceparent": other("00")});
    ws.send(&json!({"op": "publish", "id": 3, "subject": "w.not", "headers": headers}))
        .await;
    assert_eq!(ws.next().await["op"], "ok");
    let sent = spy.next().await.unwrap();
    assert!(
        sent.header_text().contains(&other("00")),
        "{}",
        sent.header_text()
    );
    ws.send(&json!({"op": "publish", "id": 4, "subject": "$SYS.a"}))
        .await;
    assert_eq!(ws.next().await["op"], "error");
    ended(&bridge).await;
    assert_eq!(named(&collector, "publish").len(), 1);
}

#[tokio::test]
async fn over_a_websocket_that_is_not_sampled_nothing_is_traced() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let mut ws = bridge.ws("/v1/ws").await;
    ws.send(&json!({"op": "publish", "id": 1, "subject": "a"}))
        .await;
    assert_eq!(ws.next().await["op"], "ok");
    ended(&bridge).await;
    assert_eq!(collector.spans().len(), 0);
}

async fn publish_traced(nats: &Nats, subject: &'static str, context: &str) {
    let client = nats.client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Traceparent", context);
    let sent = client.publish_with_headers(subject, headers, "x".into());
    sent.await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_handed_to_a_reader_is_a_span_in_every_form() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let mut sse = bridge.sse("/v1/subscribe/d.a").await.expect_ok();
    let mut ndjson = bridge.ndjson("/v1/subscribe/d.a").await.expect_ok();
    let mut ws = bridge.ws("/v1/subscribe/d.a").await;
    let mut multiplexed = bridge.ws("/v1/ws").await;
    let subscribe = json!({"op": "subscribe", "id": 1, "subject": "d.a"});
    multiplexed.send(&subscribe).await;
    assert_eq!(multiplexed.next().await["op"], "ok");
    for context in [parent("00"), parent("01")] {
        publish_traced(&nats, "d.a", &context).await;
        sse.event().await.unwrap();
        ndjson.json_line().await.unwrap();
        ws.next().await;
        multiplexed.next().await;
    }
    drop((sse, ndjson, ws, multiplexed));
    ended(&bridge).await;
    let spans = named(&collector, "stream");
    assert_eq!(spans.len(), 4);
    for span in &spans {
        let says = [
            ("messaging.operation.name", "stream"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "d.a"),
        ];
        assert_says(span, SpanKind::Consumer, &says);
        assert!(is_of(span, TRACE, SPAN), "{span:?}");
    }
}

#[tokio::test]
async fn a_span_ends_while_its_stream_goes_on() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    for path in ["/v1/subscribe/d.a", "/v1/streams/D/subscribe?from=all"] {
        if path.contains("streams") {
            nats.stream("D", &["d.>"], json!({})).await;
        }
        let seen = named(&collector, "stream").len();
        let mut sse = bridge.sse(path).await.expect_ok();
        publish_traced(&nats, "d.a", &parent("01")).await;
        sse.event().await.unwrap();
        let spans = eventually_some(SOON, "its span arrives", async || {
            let spans = named(&collector, "stream");
            (spans.len() > seen).then_some(spans)
        })
        .await;
        let id = if seen == 0 { "" } else { "D:1" };
        let span = spans.last().unwrap();
        assert_says(span, SpanKind::Consumer, &[("messaging.message.id", id)]);
    }
}

#[tokio::test]
async fn of_many_readers_of_a_message_sixteen_have_a_span() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let bridge = traced(&nats, &collector, "sample: 0").await;
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(bridge.sse("/v1/subscribe/d.a").await.expect_ok());
    }
    publish_traced(&nats, "d.a", &parent("01")).await;
    for reader in &mut readers {
        reader.event().await.unwrap();
    }
    let skipped = [("result", "skipped")];
    bridge
        .metric_becomes("natsway_traces_spans_total", &skipped, |spans| spans == 4.0)
        .await;
    drop(readers);
    ended(&bridge).await;
    assert_eq!(named(&collector, "stream").len(), 16);
}

#[tokio::test]
async fn a_publisher_who_is_not_trusted_is_linked_or_ignored() {
    for (settings, expected) in [
        ("trust: link, sample: 1", 1),
        ("trust: link, sample: 0", 0),
        ("trust: ignore, sample: 1", 0),
    ] {
        let (nats, collector) = (Nats::start().await, Collector::start().await);
        let bridge = traced(&nats, &collector, settings).await;
        let mut sse = bridge.sse("/v1/subscribe/d.a").await.expect_ok();
        publish_traced(&nats, "d.a", &parent("01")).await;
        sse.event().await.unwrap();
        drop(sse);
        ended(&bridge).await;
        let spans = named(&collector, "stream");
        assert_eq!(spans.len(), expected, "{settings}");
        for span in spans {
            assert!(span.parent_span_id.is_empty() && hex(&span.trace_id) != TRACE);
            assert_eq!(links(&span), [(TRACE.to_owned(), SPAN.to_owned())]);
        }
    }
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
