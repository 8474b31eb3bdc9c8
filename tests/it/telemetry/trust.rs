//! What a caller says of a trace goes on where callers are trusted, and nowhere else: by no way and under no
//! name.

use serde_json::json;

use crate::harness::otlp::Collector;
use crate::harness::{Bridge, Nats};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const OTHER: &str = "00f067aa0ba902b7";

fn parent(span: &str) -> String {
    format!("00-{TRACE}-{span}-01")
}

/// Publishes by every way there is, under every name; each message is seen as it is on the wire.
async fn seen(nats: &Nats, bridge: &Bridge) -> Vec<String> {
    let mut spy = nats.raw().await;
    spy.subscribe("spied.>").await;
    let mut seen = Vec::new();
    for prefix in ["", "NatsH-"] {
        let mut publish = bridge
            .post("/v1/publish/spied.http")
            .header("natsh-own", "1");
        let mut lines = bridge
            .post("/v1/publish/spied.lines?split=lines")
            .header("natsh-own", "1")
            .body("x\n");
        let values = [parent(SPAN), "state=1".to_owned(), "luggage=1".to_owned()];
        let names = ["Traceparent", "Tracestate", "Baggage"];
        for (name, value) in names.into_iter().zip(&values) {
            publish = publish.header(&format!("{prefix}{name}"), value);
            lines = lines.header(&format!("{prefix}{name}"), value);
        }
        publish.send().await.expect(204);
        lines.send().await.expect(200);
        for _ in 0..2 {
            seen.push(spy.next().await.unwrap().header_text().to_owned());
        }
    }
    let mut ws = bridge.ws("/v1/ws").await;
    for [name, state, baggage] in [
        ["traceparent", "tracestate", "baggage"],
        ["Traceparent", "TRACESTATE", "Baggage"],
    ] {
        let headers =
            json!({name: parent(SPAN), state: "state=1", baggage: "luggage=1", "Own": "1"});
        let line = json!({"subject": "spied.line", "headers": headers});
        bridge
            .post("/v1/publish")
            .header("content-type", "application/x-ndjson")
            .body(format!("{line}\n"))
            .send()
            .await
            .expect(200);
        ws.send(&json!({"op": "publish", "id": 1, "subject": "spied.ws", "headers": headers}))
            .await;
        assert_eq!(ws.next().await["op"], "ok");
        for _ in 0..2 {
            seen.push(spy.next().await.unwrap().header_text().to_owned());
        }
        ws.send(&json!({"op": "request", "id": 2, "subject": "spied.ask", "headers": headers}))
            .await;
        let asked = spy.next().await.unwrap();
        seen.push(asked.header_text().to_owned());
        let reply = asked.reply.unwrap();
        spy.publish(&reply, b"").await;
        ws.next().await;
    }
    assert_eq!(seen.len(), 10);
    seen
}

fn assert_dropped(seen: &[String]) {
    for headers in seen {
        let headers = headers.to_lowercase();
        assert!(headers.contains("own: 1"), "{headers}");
        for what in [
            "traceparent",
            TRACE,
            "tracestate",
            "state=1",
            "baggage",
            "luggage",
        ] {
            assert!(!headers.contains(what), "{headers}");
        }
    }
}

#[tokio::test]
async fn what_is_not_trusted_goes_nowhere_with_a_collector_or_without() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    for trust in ["link", "ignore"] {
        let yaml = format!("telemetry: {{ traces: {{ sample: 0, trust: {trust} }} }}");
        let bridge = Bridge::start(&nats, &yaml).await;
        assert_dropped(&seen(&nats, &bridge).await);
        let builder = Bridge::builder().nats(&nats).yaml(&yaml);
        let bridge = builder
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .start()
            .await;
        assert_dropped(&seen(&nats, &bridge).await);
    }
}

#[tokio::test]
async fn what_is_trusted_goes_on_under_its_own_name_only() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for headers in seen(&nats, &bridge).await {
        let lines: Vec<&str> = headers.lines().collect();
        for line in [
            format!("traceparent: {}", parent(SPAN)),
            "tracestate: state=1".to_owned(),
            "baggage: luggage=1".to_owned(),
        ] {
            assert!(lines.contains(&line.as_str()), "{headers}");
        }
        assert_eq!(headers.matches(TRACE).count(), 1, "{headers}");
    }
}

#[tokio::test]
async fn a_damaged_parent_goes_nowhere_under_any_name() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut spy = nats.raw().await;
    spy.subscribe("a").await;
    bridge
        .post("/v1/publish/a")
        .header("natsh-traceparent", "damaged")
        .header("natsh-own", "1")
        .send()
        .await
        .expect(204);
    let headers = spy.next().await.unwrap().header_text().to_lowercase();
    assert!(
        headers.contains("own: 1") && !headers.contains("traceparent"),
        "{headers}"
    );
}

#[tokio::test]
async fn a_reply_carries_its_context_back_in_whatever_case_it_was_written() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut responder = nats.raw().await;
    responder.subscribe("ask").await;
    let asking = tokio::spawn(bridge.post("/v1/request/ask").send());
    let asked = responder.next().await.unwrap();
    let headers = format!(
        "NATS/1.0\r\nTraceparent: damaged\r\nTraceParent: {}\r\ntraceparent: {}\r\nTracestate: a=1\r\n\r\n",
        parent(SPAN),
        parent(OTHER)
    );
    let reply = asked.reply.unwrap();
    responder
        .publish_headers(&reply, "", headers.as_bytes(), b"x")
        .await;
    let answer = asking.await.unwrap().expect(200);
    assert_eq!(answer.header("traceparent"), Some(parent(SPAN).as_str()));
    assert_eq!(answer.header("tracestate"), Some("a=1"));
    assert_eq!(answer.header("natsh-traceparent"), None);
}
