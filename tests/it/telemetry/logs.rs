//! The access log.

use serde_json::Value;

use crate::harness::{Bridge, Nats, SOON, eventually_some};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

async fn line_of(bridge: &Bridge, id: &str) -> Value {
    eventually_some(SOON, "the request has its line", async || {
        let mut lines = bridge.log().into_iter();
        lines.find(|line| line["target"] == "natsway::access" && line["request_id"] == id)
    })
    .await
}

#[tokio::test]
async fn a_line_joins_the_request_with_its_trace() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "telemetry: { log: { access: all } }").await;
    bridge
        .post("/v1/publish/$SYS.a")
        .header("x-request-id", "r-1")
        .header("traceparent", &format!("00-{TRACE}-{SPAN}-00"))
        .send()
        .await
        .expect_problem(403, "subject-not-allowed");
    let line = line_of(&bridge, "r-1").await;
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], SPAN);
    assert_eq!(line["route"], "publish");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/v1/publish/{subject}");
    assert_eq!(line["status"], 403);
    assert_eq!(line["problem"], "subject-not-allowed");
    assert_eq!(line["source"], "client");
    assert!(line["duration_ms"].as_f64().unwrap() >= 0.0);
}

#[tokio::test]
async fn without_a_whole_traceparent_a_line_names_no_trace() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "telemetry: { log: { access: all } }").await;
    for (id, parent) in [("r-1", None), ("r-2", Some("00-damaged"))] {
        let mut request = bridge.post("/v1/publish/a").header("x-request-id", id);
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        request.send().await.expect(204);
        let line = line_of(&bridge, id).await;
        assert_eq!(line["status"], 204);
        assert!(
            line.get("trace_id").is_none() && line.get("span_id").is_none(),
            "{line}"
        );
        assert!(line.get("problem").is_none(), "{line}");
    }
}
