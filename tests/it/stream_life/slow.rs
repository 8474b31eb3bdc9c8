//! Clients that read slower than messages come.

use futures_util::future::join_all;
use serde_json::json;

use super::publish;
use crate::harness::client::Opened;
use crate::harness::{Bridge, Nats, round_trip, soak};

/// Numbers read until the last one, and what the gaps between them said.
struct Read {
    seen: Vec<u64>,
    dropped: u64,
    gaps: usize,
}

async fn read_to(stream: &mut Opened, last: u64) -> Read {
    let mut read = Read {
        seen: Vec::new(),
        dropped: 0,
        gaps: 0,
    };
    loop {
        let line = stream.json_line().await.expect("the stream goes on");
        if line["notice"] == "gap" {
            assert_eq!(line["reason"], "slow-client", "{line}");
            read.gaps += 1;
            read.dropped += line["dropped"].as_u64().expect("a number");
            continue;
        }
        let number = line["data"]["n"].as_u64().expect("a number");
        if let Some(before) = read.seen.last() {
            assert!(*before < number, "in order: {before} before {number}");
        }
        read.seen.push(number);
        if number == last {
            return read;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_told_how_much_it_lost_and_the_others_lose_nothing() {
    const EACH: u64 = 50;
    let readers = soak(20, 99);
    let count: u64 = soak(3000, 20_000);
    let nats = Nats::start().await;
    // A client that takes nothing for two keep-alives counts as vanished, and this one is only slow.
    let yaml = "
streams: { keep_alive: 120s }
api: { subscribe: { buffer: { messages: 1024, bytes: 512KiB } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    // It reads nothing until all is over: the socket fills, then the ring.
    let mut stalled = bridge.ndjson("/v1/subscribe/a").await;
    let mut others = Vec::new();
    for _ in 0..readers {
        others.push(bridge.ndjson("/v1/subscribe/a").await);
    }
    let before = bridge.rss_bytes();
    let client = nats.client().await;
    let filler = "x".repeat(4096);
    for number in 0..count {
        let payload = json!({"n": number, "filler": filler}).to_string();
        publish(&client, "a", payload.as_bytes()).await;
        // No faster than everybody else can read, so that only the one who does not read is slow.
        if number % EACH == EACH - 1 {
            round_trip(&client).await;
            for read in join_all(others.iter_mut().map(|other| read_to(other, number))).await {
                assert_eq!((read.seen.len() as u64, read.gaps), (EACH, 0));
            }
        }
    }
    let grown = bridge.rss_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for a stalled reader");
    let read = read_to(&mut stalled, count - 1).await;
    assert!(read.dropped > 0 && read.gaps > 0);
    assert_eq!(
        read.seen.len() as u64 + read.dropped,
        count,
        "every message is accounted for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_that_asks_for_it_is_ended() {
    let nats = Nats::start().await;
    let yaml = "api: { subscribe: { buffer: { messages: 16, bytes: 64KiB } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut ndjson = bridge.ndjson("/v1/subscribe/a?on_slow=end").await;
    let mut member = bridge.ndjson("/v1/subscribe/a?queue=q").await;
    let mut raw = bridge.ws("/v1/subscribe/a?format=raw&on_slow=end").await;
    let mut gap = bridge.ws("/v1/subscribe/a?format=raw").await;
    let client = nats.client().await;
    let payload = format!("\"{}\"", "x".repeat(32 * 1024));
    for _ in 0..1000 {
        publish(&client, "a", payload.as_bytes()).await;
    }
    round_trip(&client).await;
    for stream in [&mut ndjson, &mut member] {
        let last = loop {
            let line = stream.json_line().await.expect("an end comes first");
            if line.get("notice").is_some() {
                break line;
            }
        };
        assert_eq!(last, json!({"notice": "end", "reason": "slow-client"}));
        assert_eq!(stream.chunk().await, None);
    }
    assert_eq!(raw.closed().await, Some((1013, "slow-client".to_owned())));
    assert_eq!(gap.closed().await, Some((4000, "slow-client".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_told_of_an_outage_that_fell_off_with_what_it_lost() {
    const COUNT: u64 = 500;
    let nats = Nats::start().await;
    let yaml = "
streams: { keep_alive: 120s }
api: { subscribe: { buffer: { messages: 16, bytes: 4MiB } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    // It reads nothing until all is over; the other one tells when NATS is back.
    let mut stalled = bridge.ndjson("/v1/subscribe/a").await;
    let mut other = bridge.ndjson("/v1/subscribe/b").await;
    let payload = format!("\"{}\"", "x".repeat(32 * 1024));
    for _ in 0..2 {
        let client = nats.client().await;
        for _ in 0..COUNT {
            publish(&client, "a", payload.as_bytes()).await;
            round_trip(&client).await;
        }
        // Behind all these: what natsway has not received is nothing that it can count.
        publish(&client, "b", b"1").await;
        let line = other.json_line().await.expect("it goes on");
        assert_eq!(line["data"], 1, "{line}");
        nats.kill9();
        nats.restart().await;
        let gap = other.json_line().await.expect("it goes on");
        assert_eq!(gap["reason"], "reconnected", "{gap}");
    }
    let client = nats.client().await;
    for _ in 0..COUNT {
        publish(&client, "a", payload.as_bytes()).await;
    }
    publish(&client, "a", b"\"last\"").await;
    let (mut read, mut dropped, mut outages) = (0, 0, 0);
    loop {
        let line = stalled.json_line().await.expect("the stream goes on");
        match line["reason"].as_str() {
            Some("slow-client") => dropped += line["dropped"].as_u64().expect("a number"),
            Some("reconnected") => outages += 1,
            _ => read += 1,
        }
        if line["data"] == "last" {
            break;
        }
    }
    assert!(dropped > 0 && outages > 0, "{dropped} {outages}");
    assert_eq!(read + dropped, 3 * COUNT + 1, "{outages}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_multiplexed_client_is_told_of_each_subscription_how_much_it_lost() {
    const COUNT: u64 = 600;
    let nats = Nats::start().await;
    let yaml = "api: { subscribe: { buffer: { messages: 32, bytes: 1MiB } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut ws = bridge.ws("/v1/ws").await;
    for subject in ["a", "b"] {
        ws.send(&json!({"op": "subscribe", "id": subject, "subject": subject}))
            .await;
        assert_eq!(ws.next().await, json!({"op": "ok", "id": subject}));
    }
    let client = nats.client().await;
    let filler = "x".repeat(32 * 1024);
    for number in 0..COUNT {
        for subject in ["a", "b"] {
            let payload = json!({"n": number, "filler": filler}).to_string();
            publish(&client, subject, payload.as_bytes()).await;
        }
    }
    round_trip(&client).await;
    let mut accounted = std::collections::HashMap::from([("a", 0), ("b", 0)]);
    let mut dropped = 0;
    while accounted.values().sum::<u64>() < 2 * COUNT {
        let frame = ws.next().await;
        let id = frame["id"].as_str().expect("an id");
        let accounted = accounted.get_mut(id).expect("one of the two");
        if frame["op"] == "gap" {
            let lost = frame["dropped"].as_u64().expect("a number");
            *accounted += lost;
            dropped += lost;
        } else {
            assert_eq!(frame["data"]["n"], *accounted, "{id}");
            *accounted += 1;
        }
    }
    assert!(dropped > 0);
    assert_eq!(
        accounted,
        std::collections::HashMap::from([("a", COUNT), ("b", COUNT)])
    );
}
