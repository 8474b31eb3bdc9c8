//! A stream or a consumer is deleted in the middle of everything: whoever is under way is told what is
//! gone, and at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Bridge, Client, Nats, SOON, eventually, round_trip};

/// At once: a server may forget to say it, and asking what became of it takes two seconds and a little;
/// every timeout here is 20 seconds.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn server(messages: usize) -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    nats.store_many("s.a", (0..messages).map(|number| number.to_string()))
        .await;
    nats
}

/// Publishes until the stream is gone; says when it was told.
async fn publish(client: Client, stored: Arc<AtomicUsize>) -> Instant {
    loop {
        let start = Instant::now();
        let path = "/v1/publish/s.a?confirm=stream&timeout=20s";
        let answer = client.post(path).body("x").send().await;
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        match answer.status.as_u16() {
            200 => stored.fetch_add(1, Ordering::Relaxed),
            _ => {
                answer.expect_problem(404, "no-stream");
                return Instant::now();
            }
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_are_told_that_the_stream_is_gone() {
    let nats = server(0).await;
    let bridge = Bridge::start(&nats, "").await;
    let stored = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::new();
    for _ in 0..32 {
        publishers.spawn(publish(bridge.client(), Arc::clone(&stored)));
    }
    eventually(SOON, "messages are stored", async || {
        stored.load(Ordering::Relaxed) > 300
    })
    .await;
    nats.js("STREAM.DELETE.S", &json!({})).await;
    let deleted = Instant::now();
    while let Some(told) = publishers.join_next().await {
        let told = told.expect("only 200 and 404, each at once");
        assert!(told.saturating_duration_since(deleted) < AT_ONCE);
    }
}

#[tokio::test]
async fn a_message_that_only_others_hear_is_not_waited_for_to_the_end() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let _deaf = client.subscribe("nobody.stores").await.unwrap();
    round_trip(&client).await;
    let begun = Instant::now();
    let path = "/v1/publish/nobody.stores?confirm=stream&timeout=20s";
    let answer = bridge.post(path).body("x").send().await;
    assert_eq!(
        answer.expect_problem(404, "no-stream")["outcome"],
        "unknown"
    );
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_under_way_are_told_that_the_consumer_is_gone() {
    const MESSAGES: usize = 400;
    let nats = server(MESSAGES).await;
    let bridge = Bridge::start(&nats, "").await;
    let path = format!("/v1/streams/S/consumers/c/fetch?max={MESSAGES}&wait=20s");
    let body = bridge.post(&path).send().await.expect(200).json();
    let messages = body["messages"].as_array().expect("a list");
    let tokens: Vec<&Value> = messages.iter().map(|message| &message["ack"]).collect();
    let (one_by_one, together) = tokens.split_at(MESSAGES / 2);
    let mut acks = JoinSet::new();
    for token in one_by_one {
        let (client, token) = (bridge.client(), token.as_str().expect("a token").to_owned());
        acks.spawn(async move {
            let start = Instant::now();
            let path = format!("/v1/acks/{token}?timeout=20s");
            let answer = client.post(&path).send().await;
            if answer.status != 204 {
                answer.expect_problem(404, "consumer-not-found");
            }
            start.elapsed()
        });
    }
    let entries: Vec<Value> = together.iter().map(|t| json!({"token": t})).collect();
    let batch = json!({"acks": entries});
    let client = bridge.client();
    acks.spawn(async move {
        let start = Instant::now();
        let request = client.post("/v1/acks?timeout=20s").json(&batch);
        let results = request.send().await.expect(200).json();
        for result in results["results"].as_array().expect("a list") {
            let gone = result["problem"]["code"] == "consumer-not-found";
            assert!(result["status"] == 204 || gone, "{result}");
        }
        start.elapsed()
    });
    nats.js("CONSUMER.DELETE.S.c", &json!({})).await;
    while let Some(took) = acks.join_next().await {
        let took = took.expect("only 204 and 404");
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_messages_is_told_at_once() {
    for delete in ["CONSUMER.DELETE.S.c", "STREAM.DELETE.S"] {
        let nats = server(0).await;
        let bridge = Bridge::start(&nats, "").await;
        let client = bridge.client();
        let fetching = tokio::spawn(async move {
            let path = "/v1/streams/S/consumers/c/fetch?wait=20s";
            (client.post(path).send().await, Instant::now())
        });
        let mut replay = bridge.ndjson("/v1/streams/S/subscribe?from=new").await;
        eventually(SOON, "both wait at the server", async || {
            let page = nats.js("CONSUMER.LIST.S", &json!({})).await;
            let consumers = page["consumers"].as_array().cloned().unwrap_or_default();
            let waits = |consumer: &Value| consumer["num_waiting"] == 1;
            consumers.len() == 2 && consumers.iter().all(waits)
        })
        .await;
        nats.js(delete, &json!({})).await;
        let deleted = Instant::now();
        let (answer, told) = fetching.await.expect("no panic");
        assert_eq!(answer.status, 404, "{delete}: {}", answer.text());
        assert!(
            told.saturating_duration_since(deleted) < AT_ONCE,
            "{delete}"
        );
        if delete.starts_with("STREAM") {
            let end = replay.json_line().await.expect("an end");
            assert_eq!(end, json!({"notice": "end", "reason": "stream-deleted"}));
            assert!(deleted.elapsed() < AT_ONCE, "{:?}", deleted.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_told_whenever_its_stream_goes() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for number in 0..30 {
        let stream = format!("S{number}");
        let subject = format!("s{number}.>");
        nats.stream(&stream, &[&subject], json!({})).await;
    }
    let mut readers = JoinSet::new();
    for number in 0..30 {
        let path = format!("/v1/streams/S{number}/subscribe?from=new");
        let mut replay = bridge.ndjson(&path).await;
        nats.js(&format!("STREAM.DELETE.S{number}"), &json!({}))
            .await;
        let deleted = Instant::now();
        readers.spawn(async move { (replay.json_line().await, deleted.elapsed()) });
    }
    while let Some(told) = readers.join_next().await {
        let (end, after) = told.expect("no panic");
        let end = end.expect("an end");
        assert_eq!(end, json!({"notice": "end", "reason": "stream-deleted"}));
        assert!(after < AT_ONCE, "{after:?}");
    }
}
