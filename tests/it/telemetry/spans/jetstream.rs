//! Fetches and acks.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::{
    OTHER_SPAN, OTHER_TRACE, TRACE, assert_says, ended, is_of, links, other, parent, traced,
};
use crate::harness::otlp::{Collector, hex};
use crate::harness::{Bridge, Nats, SOON, eventually};

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
