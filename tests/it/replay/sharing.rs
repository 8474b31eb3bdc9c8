//! How many consumers readers cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::{consumers, fill, next_seq, path, server};
use crate::harness::{Bridge, SOON, eventually, soak};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_the_same_messages_share_one_consumer() {
    let readers = soak(50, 1000);
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..1000).await;
    let mut streams = Vec::new();
    for index in 0..readers {
        let query = ["from=new", "from=new&subject=s.b"][index % 2];
        streams.push(bridge.ndjson(&path(query)).await);
    }
    assert_eq!(consumers(&nats).await, 2, "one for each set of subjects");
    for seq in 1001..1011 {
        assert_eq!(nats.store("s.b", "1").await, seq);
    }
    for stream in &mut streams {
        for seq in 1001..1011 {
            assert_eq!(next_seq(stream).await, seq);
        }
    }
    // Those who come back at once find what they missed where the others read.
    streams.truncate(readers / 2);
    let returned = (0..readers / 2).map(|_| path("last_event_id=1005"));
    for path in returned {
        let mut stream = bridge.ndjson(&path).await;
        for seq in 1006..1011 {
            assert_eq!(next_seq(&mut stream).await, seq);
        }
        streams.push(stream);
    }
    assert_eq!(consumers(&nats).await, 2);
    drop(streams);
    eventually(SOON, "nothing is left on the server", async || {
        consumers(&nats).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_catch_up_at_once_than_may() {
    const MESSAGES: u64 = 3000;
    const READERS: usize = 24;
    let nats = Arc::new(server(json!({})).await);
    let yaml = "api: { jetstream: { catchups_max: 3 } }";
    let bridge = Arc::new(Bridge::start(&nats, yaml).await);
    fill(&nats, "s.a", 0..MESSAGES).await;
    let done = Arc::new(AtomicBool::new(false));
    let watching = {
        let (nats, done) = (Arc::clone(&nats), Arc::clone(&done));
        tokio::spawn(async move {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(consumers(&nats).await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        })
    };
    let mut reading = JoinSet::new();
    for _ in 0..READERS {
        let client = bridge.client();
        reading.spawn(async move {
            let mut stream = client.ndjson(&path("from=all")).await;
            for seq in 1..=MESSAGES + 1 {
                assert_eq!(next_seq(&mut stream).await, seq);
            }
        });
    }
    nats.store("s.a", "1").await;
    while let Some(read) = reading.join_next().await {
        read.expect("it reads everything");
    }
    done.store(true, Ordering::Relaxed);
    let most = watching.await.expect("it watches");
    // Three and the feed's; and a server deletes one in its own time, while the next is made already.
    assert!(
        (1..=7).contains(&most),
        "{most} consumers for {READERS} readers"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_keeps_nobody_waiting() {
    let nats = server(json!({})).await;
    let yaml = "api: { jetstream: { catchups_max: 1 } }\nstreams: { keep_alive: 120s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    for _ in 0..300 {
        let sent = client.publish("s.a", "x".repeat(50_000).into()).await;
        sent.expect("sent");
    }
    eventually(SOON, "all is stored", async || {
        nats.stream_state("S").await["messages"] == 300
    })
    .await;
    let mut stalled = bridge.ndjson(&path("from=all")).await;
    assert_eq!(next_seq(&mut stalled).await, 1);
    let mut other = bridge.ndjson(&path("from=all&until=now")).await;
    for seq in 1..=300 {
        assert_eq!(next_seq(&mut other).await, seq);
    }
    for seq in 2..=300 {
        assert_eq!(next_seq(&mut stalled).await, seq);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_memory_costs_time_and_no_message() {
    const MESSAGES: u64 = 300;
    let nats = server(json!({})).await;
    let yaml = "memory: { streams: 1MiB }\napi: { jetstream: { catchups_max: 2 } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut reading = JoinSet::new();
    for index in 0..12 {
        let path = path(["from=new", "from=new&subject=s.a"][index % 2]);
        let mut stream = bridge.ndjson(&path).await;
        reading.spawn(async move {
            for seq in 1..=MESSAGES {
                assert_eq!(next_seq(&mut stream).await, seq);
            }
        });
    }
    // Some are larger than all that feeds may keep together.
    let client = nats.client().await;
    for number in 0..MESSAGES {
        let bytes = if number % 50 == 0 { 600_000 } else { 10_000 };
        let sent = client.publish("s.a", vec![b'x'; bytes].into()).await;
        sent.expect("sent");
    }
    while let Some(read) = reading.join_next().await {
        read.expect("it reads everything");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_back_at_once_gets_what_it_missed() {
    const MESSAGES: u64 = 12_000;
    let readers = soak(100, 3000);
    let nats = server(json!({})).await;
    let yaml = "api: { jetstream: { catchups_max: 4 } }";
    let bridge = Bridge::start(&nats, yaml).await;
    // More than a feed keeps.
    fill(&nats, "s.a", 0..MESSAGES).await;
    let mut reading = JoinSet::new();
    for index in 0..readers {
        let client = bridge.client();
        reading.spawn(async move {
            let after = MESSAGES - 1000 + index as u64 % 10;
            let path = path(&format!("last_event_id={after}"));
            let mut stream = client.ndjson(&path).await;
            for seq in after + 1..=MESSAGES + 1 {
                assert_eq!(next_seq(&mut stream).await, seq);
            }
        });
    }
    nats.store("s.a", "1").await;
    let mut most = 0;
    while !reading.is_empty() {
        most = most.max(consumers(&nats).await);
        let soon = tokio::time::timeout(Duration::from_millis(20), reading.join_next());
        if let Ok(Some(read)) = soon.await {
            read.expect("it reads what it missed");
        }
    }
    // Four and the feed's, and as many whose deletion the server has not come to yet.
    assert!(most <= 9, "{most} consumers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_that_nobody_reads_any_more_leave_few_consumers_behind() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    let mut opened = JoinSet::new();
    for subject in 0..200 {
        let client = bridge.client();
        opened.spawn(async move {
            let path = path(&format!("from=new&subject=s.{subject}"));
            drop(client.ndjson(&path).await.expect_ok());
        });
    }
    while let Some(opened) = opened.join_next().await {
        opened.expect("it was opened");
    }
    // Well before the five seconds that each may linger.
    eventually(Duration::from_secs(3), "few are left", async || {
        consumers(&nats).await <= 64
    })
    .await;
    let lingering = bridge.metric("natsway_replay_lingering", &[]).await;
    assert!(lingering <= 64.0, "{lingering}");
    eventually(SOON, "nothing is left on the server", async || {
        consumers(&nats).await == 0
    })
    .await;
}
