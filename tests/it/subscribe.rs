//! What holds for a subscription in every form.

mod head;
mod refusals;
mod routes;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::client::Opened;
use crate::harness::{Bridge, Nats, eventually, round_trip, soak};

const MULTI: &str = "natsway's own stack";

/// Publishes numbers in order, beside natsway, and waits until the server has them.
async fn publish(client: &async_nats::Client, subject: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let payload = number.to_string().into();
        let sent = client.publish(subject.to_owned(), payload).await;
        sent.expect(MULTI);
    }
    round_trip(client).await;
}

fn envelope(subject: &str, number: usize) -> Value {
    json!({"subject": subject, "encoding": "json", "data": number})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_brings_the_same_messages_in_order() {
    const COUNT: usize = 2000;
    let nats = Nats::start().await;
    // Nobody is slow here, though the machine may be.
    let yaml = "api: { subscribe: { buffer: { messages: 4096 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut sse = bridge.sse("/v1/subscribe/orders.%3E").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe?subject=orders.%3E").await;
    let mut ws = bridge.ws("/v1/subscribe/orders.%3E").await;
    let client = nats.client().await;
    let publishing = tokio::spawn(async move { publish(&client, "orders.new", 0..COUNT).await });
    for number in 0..COUNT {
        let expected = envelope("orders.new", number);
        assert_eq!(sse.event().await.expect("an event").json(), expected);
        assert_eq!(ndjson.json_line().await.expect("a line"), expected);
        assert_eq!(ws.next().await, expected);
    }
    publishing.await.expect("published");
    assert_eq!(
        nats.subscriptions("orders.>").await,
        1,
        "shared by all three"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_say_what_they_stream() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let sse = bridge.sse("/v1/subscribe/a").await;
    let ndjson = bridge.ndjson("/v1/subscribe/a").await;
    for (opened, content_type) in [
        (&sse, "text/event-stream"),
        (&ndjson, "application/x-ndjson"),
    ] {
        assert_eq!(opened.header("content-type"), Some(content_type));
        assert_eq!(
            opened.header("cache-control"),
            Some("no-store, no-transform")
        );
        assert_eq!(opened.header("x-accel-buffering"), Some("no"));
        assert_eq!(opened.header("content-length"), None);
    }
    let ws = bridge.ws("/v1/subscribe/a").await;
    assert_eq!(ws.response.status().as_u16(), 101);
    assert!(ws.response.headers().contains_key("x-request-id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_subjects_come_on_one_stream_each_in_order() {
    const COUNT: usize = 300;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut stream = bridge
        .ndjson("/v1/subscribe?subject=a.*&subject=b.%3E&subject=c")
        .await;
    let client = nats.client().await;
    for number in 0..COUNT {
        for subject in ["a.x", "b.y.z", "c"] {
            publish(&client, subject, number..number + 1).await;
        }
    }
    let mut next = std::collections::HashMap::from([("a.x", 0), ("b.y.z", 0), ("c", 0)]);
    for _ in 0..3 * COUNT {
        let line = stream.json_line().await.expect("a line");
        let subject = line["subject"].as_str().expect("a subject");
        let expected = next.get_mut(subject).expect("one of the three");
        assert_eq!(line["data"], *expected, "{subject}");
        *expected += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_ends_the_stream_after_so_many() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut sse = bridge.sse("/v1/subscribe/a?max=3").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe/a?max=3").await;
    let mut ws = bridge.ws("/v1/subscribe/a?max=3").await;
    let mut raw = bridge.ws("/v1/subscribe/a?max=3&format=raw").await;
    publish(&nats.client().await, "a", 0..10).await;
    for number in 0..3 {
        assert_eq!(
            sse.event().await.expect("an event").json(),
            envelope("a", number)
        );
        assert_eq!(ndjson.json_line().await, Some(envelope("a", number)));
        assert_eq!(ws.next().await, envelope("a", number));
        assert_eq!(raw.next().await, number);
    }
    let end = json!({"notice": "end", "reason": "max"});
    let block = sse.event().await.expect("the end");
    assert_eq!(
        (block.event.as_deref(), block.json()),
        (Some("end"), end.clone())
    );
    assert!(
        block
            .retry
            .is_some_and(|millis| (1000..=5000).contains(&millis))
    );
    assert_eq!(sse.chunk().await, None);
    assert_eq!(ndjson.json_line().await, Some(end.clone()));
    assert_eq!(ndjson.chunk().await, None);
    assert_eq!(ws.next().await, end);
    assert_eq!(ws.closed().await, Some((1000, "max".to_owned())));
    assert_eq!(raw.closed().await, Some((1000, "max".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_queue_group_share_the_messages() {
    const COUNT: usize = 300;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(bridge.ndjson("/v1/subscribe/jobs?queue=workers").await);
    }
    let mut onlooker = bridge.ndjson("/v1/subscribe/jobs").await;
    assert_eq!(nats.subscriptions("jobs").await, 4);
    let client = nats.client().await;
    publish(&client, "jobs", 0..COUNT).await;
    client.publish("jobs", "\"all\"".into()).await.expect(MULTI);
    round_trip(&client).await;
    let (sender, mut seen) = tokio::sync::mpsc::channel(COUNT + 3);
    let mut tasks = JoinSet::new();
    for (index, mut member) in members.into_iter().enumerate() {
        let sender = sender.clone();
        tasks.spawn(async move {
            while let Some(line) = member.json_line().await {
                if sender.send((index, line["data"].clone())).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut numbers = Vec::new();
    let mut by_member = [0; 3];
    while numbers.len() <= COUNT {
        let (member, data) = seen.recv().await.expect("each message has one member");
        by_member[member] += 1;
        numbers.push(data);
    }
    numbers.sort_by_key(|data| data.as_u64());
    let mut expected: Vec<Value> = vec![json!("all")];
    expected.extend((0..COUNT).map(Value::from));
    assert_eq!(numbers, expected, "each exactly once");
    assert!(by_member.iter().all(|count| *count > 0), "{by_member:?}");
    for number in 0..COUNT {
        assert_eq!(onlooker.json_line().await, Some(envelope("jobs", number)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_reader_that_leaves_ends_the_subscription() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let one = bridge.sse("/v1/subscribe/a").await;
    let two = bridge.ndjson("/v1/subscribe/a").await;
    let ws = bridge.ws("/v1/subscribe/a").await;
    assert_eq!(nats.subscriptions("a").await, 1);
    drop(one);
    drop(ws);
    let mut two = two;
    publish(&nats.client().await, "a", 0..1).await;
    assert_eq!(two.json_line().await, Some(envelope("a", 0)));
    assert_eq!(nats.subscriptions("a").await, 1);
    drop(two);
    // Far sooner than a keep-alive: a closed connection is noticed at once.
    eventually(Duration::from_secs(10), "it is unsubscribed", async || {
        nats.subscriptions("a").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subjects_are_a_thousand_streams() {
    let count = soak(1000, 5000);
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut streams: Vec<Opened> = Vec::with_capacity(count);
    for index in 0..count {
        streams.push(bridge.ndjson(&format!("/v1/subscribe/topic.{index}")).await);
    }
    let client = nats.client().await;
    for round in 0..3 {
        for index in 0..count {
            let subject = format!("topic.{index}");
            let sent = client.publish(subject, round.to_string().into()).await;
            sent.expect(MULTI);
        }
    }
    round_trip(&client).await;
    for (index, stream) in streams.iter_mut().enumerate() {
        for round in 0..3 {
            let expected = envelope(&format!("topic.{index}"), round);
            assert_eq!(stream.json_line().await, Some(expected));
        }
    }
}
