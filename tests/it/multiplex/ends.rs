//! How a connection ends, and what becomes of what was sent before.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Ws, open, refused, subscribe};
use crate::harness::{Bridge, Nats, Responder, SOON, arrived, round_trip, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_before_a_close_arrives() {
    const COUNT: usize = 100;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "runtime: { workers: 1 }").await;
    let client = nats.client().await;
    let mut spy = client.subscribe("a").await.unwrap();
    round_trip(&client).await;
    for confirm in ["none", "server"] {
        let mut ws = open(&bridge).await;
        for number in 0..COUNT {
            ws.send(&json!({"op": "publish", "subject": "a", "data": number, "confirm": confirm}))
                .await;
        }
        ws.close().await;
        for number in 0..COUNT {
            let message = within(SOON, "a message", spy.next()).await.unwrap();
            assert_eq!(message.payload, number.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_answered_when_what_was_sent_before_has_arrived() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let mut spy = client.subscribe("a").await.unwrap();
    round_trip(&client).await;
    let mut ws = open(&bridge).await;
    for number in 0..50 {
        ws.send(&json!({"op": "publish", "subject": "a", "data": number}))
            .await;
    }
    ws.send_frame(Message::Close(None)).await;
    assert_eq!(ws.closed().await, None);
    round_trip(&client).await;
    assert_eq!(arrived(&mut spy).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_after_the_client_has_left_is_counted_as_that() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "telemetry: { log: { access: errors } }").await;
    let mut slow = Responder::start(&nats, "slow").await;
    let mut ws = open(&bridge).await;
    for id in ["told", "left"] {
        ws.send(&json!({"op": "request", "id": id, "subject": "slow", "timeout": "25s"}))
            .await;
    }
    let told = slow.next().await;
    let _left = slow.next().await;
    slow.fail(told).await;
    refused(&mut ws, Some("told"), 409, "service-error").await;
    ws.send_frame(Message::Close(None)).await;
    assert_eq!(ws.closed().await, None, "what is in flight is left behind");
    nats.kill9();
    let line = bridge.logs("client-closed").await;
    assert!(line.contains("\"status\":499"), "{line}");
    let metrics = bridge.metrics().await;
    let problems = |labels: &[_]| metrics.get("natsway_http_problems_total", labels);
    assert_eq!(
        problems(&[("code", "client-closed"), ("source", "client")]),
        Some(1.0)
    );
    assert_eq!(problems(&[("code", "service-error")]), Some(1.0));
    assert_eq!(problems(&[]), Some(2.0), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_the_grace_period_every_operation_is_answered() {
    let nats = Nats::start().await;
    let yaml = "nats: { ping_interval: 60s }\nshutdown: { ready_delay: 0s, grace: 2s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut ws = open(&bridge).await;
    nats.pause().await;
    for frame in [
        json!({"op": "publish", "subject": "a", "timeout": "25s"}),
        json!({"op": "publish", "id": "p", "subject": "a", "timeout": "25s"}),
        json!({"op": "publish", "subject": "a", "timeout": "25s"}),
        json!({"op": "publish", "id": "p", "subject": "a"}),
    ] {
        ws.send(&frame).await;
    }
    // All before it are in flight once the last is refused.
    let problem = refused(&mut ws, Some("p"), 409, "conflict").await;
    assert_eq!(problem["outcome"], "not_sent");
    assert_eq!(problem["source"], "client");
    bridge.sigterm();
    let ids = three_unknown(&mut ws).await;
    assert_eq!(ids, [json!("p"), Value::Null, Value::Null]);
    assert_eq!(ws.closed().await, Some((1001, "draining".to_owned())));
    nats.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_the_grace_period_what_is_known_is_told_and_of_the_rest_that_nobody_knows() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { ready_delay: 0s, grace: 5s }").await;
    let mut slow = Responder::start(&nats, "slow").await;
    let mut ws = open(&bridge).await;
    subscribe(&mut ws, "s", "a").await;
    // A stream that takes its time: another one answers for it.
    nats.stream("S", &["slow"], json!({"no_ack": true})).await;
    let publish =
        json!({"op": "publish", "subject": "slow", "confirm": "stream", "timeout": "25s"});
    let mut held = Vec::new();
    for id in [json!("one"), json!("two"), Value::Null, Value::Null] {
        let mut publish = publish.clone();
        if !id.is_null() {
            publish["id"] = id;
        }
        ws.send(&publish).await;
        held.push(slow.next().await);
    }
    for id in ["three", "four"] {
        ws.send(&json!({"op": "request", "id": id, "subject": "slow", "timeout": "25s"}))
            .await;
        held.push(slow.next().await);
    }
    bridge.sigterm();
    let end = json!({"op": "end", "id": "s", "reason": "draining"});
    assert_eq!(ws.next().await, end);
    // One of each kind is answered while the grace lasts.
    for known in [4, 2, 0] {
        slow.answer(held.swap_remove(known), r#"{"stream":"S","seq":7}"#)
            .await;
    }
    let reply = ws.next().await;
    assert_eq!(
        (&reply["op"], &reply["id"]),
        (&json!("reply"), &json!("three"))
    );
    let stored = json!({"op": "ok", "id": "one", "stream": "S", "seq": 7, "duplicate": false});
    assert_eq!(ws.next().await, stored);
    let ids = three_unknown(&mut ws).await;
    assert_eq!(ids, [json!("four"), json!("two"), Value::Null]);
    let last = ws.next_frame().await;
    assert!(matches!(last, Some(Message::Close(Some(_)))), "{last:?}");
    bridge.wait_exit(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_the_grace_period_nobody_who_waits_for_a_place_was_sent() {
    let nats = Nats::start().await;
    let yaml = "shutdown: { ready_delay: 0s, grace: 3s }\n\
                api: { request: { concurrency: { limit: 1, queue: 9 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut slow = Responder::start(&nats, "slow").await;
    nats.stream("S", &["slow"], json!({"no_ack": true})).await;
    let mut ws = open(&bridge).await;
    let publish = json!({"op": "publish", "id": "once", "subject": "slow", "confirm": "stream",
        "msg_id": "m", "timeout": "25s"});
    ws.send(&publish).await;
    // One that is sent, one that is the next, and one behind it.
    for id in ["sent", "next", "last"] {
        ws.send(&json!({"op": "request", "id": id, "subject": "slow", "timeout": "25s"}))
            .await;
    }
    ws.send(&json!({"op": "publish", "id": "once", "subject": "a"}))
        .await;
    refused(&mut ws, Some("once"), 409, "conflict").await;
    let _held = (slow.next().await, slow.next().await);
    bridge.sigterm();
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let frame = ws.next().await;
        let problem = &frame["problem"];
        assert_eq!(problem["code"], "shutting-down", "{frame}");
        let what = (problem["outcome"].to_string(), problem["retryable"] == true);
        told.insert(frame["id"].to_string(), what);
    }
    for (id, outcome, retryable) in [
        ("once", "unknown", true),
        ("sent", "unknown", false),
        ("next", "not_sent", true),
        ("last", "not_sent", true),
    ] {
        let expected = (format!("\"{outcome}\""), retryable);
        assert_eq!(told[&format!("\"{id}\"")], expected, "{id}");
    }
    assert_eq!(ws.closed().await, Some((1001, "draining".to_owned())));
    assert!(bridge.wait_exit(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_and_ends_come_under_the_ids() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = open(&bridge).await;
    subscribe(&mut ws, "a", "a").await;
    subscribe(&mut ws, "b", "b").await;
    nats.restart().await;
    let mut gaps: Vec<Value> = vec![ws.next().await, ws.next().await];
    gaps.sort_by_key(|frame| frame["id"].to_string());
    for (frame, id) in gaps.iter().zip(["a", "b"]) {
        let expected = json!({"op": "gap", "id": id, "dropped": null, "reason": "reconnected"});
        assert_eq!(*frame, expected);
    }
    // A request in flight is answered before the end.
    let mut slow = Responder::start(&nats, "slow").await;
    bridge.is_connected().await;
    ws.send(&json!({"op": "request", "id": "r", "subject": "slow", "timeout": "20s"}))
        .await;
    let request = slow.next().await;
    bridge.sigterm();
    let mut ends: Vec<Value> = vec![ws.next().await, ws.next().await];
    ends.sort_by_key(|frame| frame["id"].to_string());
    for (frame, id) in ends.iter().zip(["a", "b"]) {
        assert_eq!(*frame, json!({"op": "end", "id": id, "reason": "draining"}));
    }
    slow.answer(request, "done").await;
    let frame = ws.next().await;
    assert_eq!(
        (&frame["op"], &frame["data"]),
        (&json!("reply"), &json!("done"))
    );
    assert_eq!(ws.closed().await, Some((1001, "draining".to_owned())));
    assert_eq!(bridge.wait_exit(SOON).await.code(), Some(0));
}

/// The ids of three operations of which nobody knows what became, in the order of their texts.
async fn three_unknown(ws: &mut Ws) -> Vec<Value> {
    let mut ids: Vec<Value> = Vec::new();
    for _ in 0..3 {
        let frame = ws.next().await;
        assert_eq!(frame["problem"]["code"], "shutting-down", "{frame}");
        assert_eq!(frame["problem"]["outcome"], "unknown", "{frame}");
        ids.push(frame["id"].clone());
    }
    ids.sort_by_key(ToString::to_string);
    ids
}
