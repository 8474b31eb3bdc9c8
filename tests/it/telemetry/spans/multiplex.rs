//! What is done over one WebSocket.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::{
    OTHER_SPAN, OTHER_TRACE, TRACE, assert_says, ended, is_of, links, named, other, parent, traced,
};
use crate::harness::otlp::{Collector, hex};
use crate::harness::{Bridge, Nats};

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
