//! Many messages that are published in one request.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::{
    OTHER_SPAN, OTHER_TRACE, TRACE, assert_says, ended, is_of, links, named, other, parent, traced,
};
use crate::harness::Nats;
use crate::harness::otlp::{Collector, hex};

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
