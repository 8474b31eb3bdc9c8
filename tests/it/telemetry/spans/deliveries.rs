//! Messages that are handed to readers.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::{SPAN, TRACE, assert_says, ended, is_of, links, named, parent, traced};
use crate::harness::otlp::{Collector, hex};
use crate::harness::{Nats, SOON, eventually_some};

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
