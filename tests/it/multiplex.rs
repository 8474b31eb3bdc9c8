//! `/v1/ws`: many subscriptions, publishes and requests over one WebSocket.

mod ends;
mod limits;

use std::collections::HashMap;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::client::assert_well_formed;
use crate::harness::ws::Ws;
use crate::harness::{Bridge, Calm, Nats, SOON, eventually, round_trip};

async fn open(bridge: &Bridge) -> Ws {
    bridge.ws("/v1/ws").await
}

async fn subscribe(ws: &mut Ws, id: &str, subject: &str) {
    ws.send(&json!({"op": "subscribe", "id": id, "subject": subject}))
        .await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": id}));
}

/// The next frame must be an error with this code.
async fn refused(ws: &mut Ws, id: Option<&str>, status: u16, code: &str) -> Value {
    let frame = ws.next().await;
    assert_eq!(frame["op"], "error", "{frame}");
    assert_eq!(frame.get("id"), id.map(Value::from).as_ref(), "{frame}");
    let problem = frame["problem"].clone();
    assert_well_formed(&problem);
    let request_id = &ws.response.headers()["x-request-id"];
    assert_eq!(problem["request_id"], request_id.to_str().unwrap());
    assert_eq!(
        (&problem["status"], &problem["code"]),
        (&json!(status), &json!(code)),
        "{frame}"
    );
    problem
}

/// A service on `subject` that answers with `answer`.
async fn service(nats: &Nats, subject: &'static str, answer: &'static str) {
    let client = nats.client().await;
    let mut requests = client.subscribe(subject).await.expect("subscribed");
    round_trip(&client).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let Some(reply) = request.reply else { continue };
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Served-By", "test");
            if answer.is_empty() {
                headers.insert("Nats-Service-Error-Code", "409");
                headers.insert("Nats-Service-Error", "sold out");
            }
            let sent = client.publish_with_headers(reply, headers, answer.into());
            sent.await.expect("sent");
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subprotocol_is_chosen_where_it_is_offered() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for (offered, chosen) in [
        (None, None),
        (Some("natsway.v1"), Some("natsway.v1")),
        (Some("other, natsway.v1"), Some("natsway.v1")),
    ] {
        let headers: Vec<_> = offered
            .map(|name| ("sec-websocket-protocol", name))
            .into_iter()
            .collect();
        let ws = Ws::connect(bridge.address(), "/v1/ws", &headers)
            .await
            .expect("it opens");
        let header = ws.response.headers().get("sec-websocket-protocol");
        assert_eq!(header.map(|value| value.to_str().expect("text")), chosen);
    }
    bridge
        .get("/v1/ws")
        .send()
        .await
        .expect_problem(400, "invalid-header");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_come_under_their_ids_until_they_are_ended() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = open(&bridge).await;
    subscribe(&mut ws, "one", "a.*").await;
    subscribe(&mut ws, "two", "b").await;
    ws.send(&json!({"op": "subscribe", "id": 3, "subject": "a.>"}))
        .await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": 3}));
    let client = nats.client().await;
    client.publish("a.x", "1".into()).await.expect("sent");
    client.publish("b", "text".into()).await.expect("sent");
    round_trip(&client).await;
    let mut seen = HashMap::new();
    for _ in 0..3 {
        let frame = ws.next().await;
        assert_eq!(frame["op"], "message");
        seen.insert(frame["id"].to_string(), frame);
    }
    assert_eq!(
        seen["\"one\""],
        json!({"op": "message", "id": "one", "subject": "a.x", "encoding": "json", "data": 1})
    );
    assert_eq!(seen["3"]["data"], 1);
    assert_eq!(
        seen["\"two\""],
        json!({"op": "message", "id": "two", "subject": "b", "encoding": "text", "data": "text"})
    );

    ws.send(&json!({"op": "unsubscribe", "id": "two"})).await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": "two"}));
    eventually(SOON, "it is unsubscribed", async || {
        nats.subscriptions("b").await == 0
    })
    .await;
    client.publish("b", "2".into()).await.expect("sent");
    client.publish("a.y", "3".into()).await.expect("sent");
    round_trip(&client).await;
    for _ in 0..2 {
        assert_eq!(ws.next().await["subject"], "a.y");
    }
    subscribe(&mut ws, "two", "c").await;
    ws.close().await;
    eventually(SOON, "nothing is left", async || {
        nats.subscriptions("c").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_say_what_they_promise() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("ORDERS", &["orders.>"], json!({})).await;
    let mut spy = nats.raw().await;
    spy.subscribe("a.b").await;
    let mut ws = open(&bridge).await;
    ws.send(&json!({
        "op": "publish", "id": "p", "subject": "a.b", "data": {"x": 1},
        "headers": {"Order-Id": "7"},
    }))
    .await;
    assert_eq!(ws.next().await, json!({"op": "ok", "id": "p"}));
    let sent = spy.next().await.expect("a message");
    assert_eq!(sent.text(), "{\"x\":1}");
    assert_eq!(sent.header_text(), "NATS/1.0\r\nOrder-Id: 7\r\n\r\n");

    for duplicate in [false, true] {
        ws.send(&json!({
            "op": "publish", "id": "s", "subject": "orders.new", "data": "aGk=",
            "encoding": "base64", "confirm": "stream", "msg_id": "m-1",
        }))
        .await;
        assert_eq!(
            ws.next().await,
            json!({"op": "ok", "id": "s", "stream": "ORDERS", "seq": 1, "duplicate": duplicate})
        );
    }
    assert_eq!(nats.stored("ORDERS", 1).await["data"], "aGk=");
    ws.send(&json!({"op": "publish", "id": "s", "subject": "a", "confirm": "stream"}))
        .await;
    refused(&mut ws, Some("s"), 404, "no-stream").await;

    // Without an id only a failure is answered.
    ws.send(&json!({"op": "publish", "subject": "a.quiet", "data": 1}))
        .await;
    ws.send(&json!({"op": "publish", "subject": "$SYS.x", "data": 1}))
        .await;
    refused(&mut ws, None, 403, "subject-not-allowed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_of_one_connection_keep_their_order() {
    const COUNT: usize = 2000;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut spy = bridge.ndjson("/v1/subscribe/a").await;
    let mut ws = open(&bridge).await;
    for number in 0..COUNT {
        ws.send(&json!({"op": "publish", "subject": "a", "data": number}))
            .await;
    }
    for number in 0..COUNT {
        assert_eq!(spy.json_line().await.expect("a line")["data"], number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_bring_their_replies() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    service(&nats, "stock", "{\"left\":3}").await;
    service(&nats, "sold.out", "").await;
    let mut ws = open(&bridge).await;
    ws.send(&json!({"op": "request", "id": "r", "subject": "stock", "data": "?"}))
        .await;
    assert_eq!(
        ws.next().await,
        json!({"op": "reply", "id": "r", "subject": "stock", "headers": {"Served-By": ["test"]},
               "encoding": "json", "data": {"left": 3}})
    );
    ws.send(&json!({"op": "request", "id": "r", "subject": "sold.out"}))
        .await;
    refused(&mut ws, Some("r"), 409, "service-error").await;
    ws.send(&json!({"op": "request", "id": "r", "subject": "nobody"}))
        .await;
    refused(&mut ws, Some("r"), 503, "no-responders").await;
    // Somebody listens and does not answer.
    let silent = nats.client().await;
    let _listening = silent.subscribe("silent").await.expect("subscribed");
    round_trip(&silent).await;
    ws.send(&json!({"op": "request", "id": "r", "subject": "silent", "timeout": "500ms"}))
        .await;
    let problem = refused(&mut ws, Some("r"), 504, "reply-timeout").await;
    assert_eq!(problem["outcome"], "unknown");
    ws.send(&json!({"op": "request", "id": "r", "subject": "silent", "timeout": "2h"}))
        .await;
    refused(&mut ws, Some("r"), 400, "invalid-parameter").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_and_the_connection_stays() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let mut ws = open(&bridge).await;
    for text in [
        "",
        "{",
        "[]",
        "\"x\"",
        "{\"op\":\"subscribe\",\"subject\":\"a\"}",
        "null",
    ] {
        ws.send_frame(Message::text(text)).await;
        refused(&mut ws, None, 400, "invalid-body").await;
    }
    ws.send_frame(Message::binary(&b"{}"[..])).await;
    refused(&mut ws, None, 400, "invalid-body").await;
    let with_id = |op: &str, more: Value| {
        let mut frame = json!({"op": op, "id": "x"});
        let (Value::Object(frame_members), Value::Object(more)) = (&mut frame, more) else {
            panic!("objects");
        };
        frame_members.extend(more);
        frame
    };
    for (frame, status, code) in [
        (with_id("fly", json!({})), 400, "invalid-body"),
        (with_id("ack", json!({"ack": "t"})), 400, "invalid-body"),
        (with_id("subscribe", json!({})), 400, "invalid-body"),
        (
            with_id("subscribe", json!({"subject": "a", "from": "all"})),
            400,
            "invalid-body",
        ),
        (
            with_id("subscribe", json!({"subject": "a..b"})),
            400,
            "invalid-subject",
        ),
        (
            with_id("subscribe", json!({"subject": ">"})),
            403,
            "subject-not-allowed",
        ),
        (
            with_id("subscribe", json!({"subject": "a", "queue": "b c"})),
            400,
            "invalid-parameter",
        ),
        (
            with_id("publish", json!({"subject": "a.*"})),
            400,
            "wildcard-not-allowed",
        ),
        (
            with_id("publish", json!({"subject": "a\r\nPUB b 0"})),
            400,
            "invalid-subject",
        ),
        (
            with_id("publish", json!({"subject": "_INBOX.x"})),
            403,
            "subject-not-allowed",
        ),
        (
            with_id(
                "publish",
                json!({"subject": "a", "headers": {"nats-rollup": "all"}}),
            ),
            400,
            "header-not-allowed",
        ),
        (
            with_id(
                "publish",
                json!({"subject": "a", "headers": {"X": "a\r\nb"}}),
            ),
            400,
            "invalid-header",
        ),
        (
            with_id("publish", json!({"subject": "a", "confirm": "maybe"})),
            400,
            "invalid-body",
        ),
        (
            with_id("request", json!({"subject": "$JS.API.INFO"})),
            403,
            "subject-not-allowed",
        ),
        (with_id("unsubscribe", json!({})), 404, "not-found"),
    ] {
        ws.send(&frame).await;
        refused(&mut ws, Some("x"), status, code).await;
    }
    subscribe(&mut ws, "x", "a").await;
    ws.send(&json!({"op": "subscribe", "id": "x", "subject": "b"}))
        .await;
    refused(&mut ws, Some("x"), 409, "conflict").await;
    ws.send(&json!({"op": "publish", "id": "x", "subject": "b"}))
        .await;
    refused(&mut ws, Some("x"), 409, "conflict").await;
    let client = nats.client().await;
    client.publish("a", "1".into()).await.expect("sent");
    round_trip(&client).await;
    assert_eq!(ws.next().await["data"], 1);
    calm.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_switched_off_is_not_there() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { publish: false, request: false }").await;
    let mut ws = open(&bridge).await;
    for op in ["publish", "request"] {
        ws.send(&json!({"op": op, "id": "x", "subject": "a"})).await;
        refused(&mut ws, Some("x"), 404, "not-found").await;
    }
    subscribe(&mut ws, "x", "a").await;
}
