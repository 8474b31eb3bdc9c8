//! Replays where the stream has copies: leaders step down while readers follow and catch up, and a
//! consumer may stand on a copy that is behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::{Bridge, SOON, eventually, eventually_some, soak};

const SUBSCRIBE: &str = "/v1/streams/S/subscribe";

/// Stores a number until it is stored, whoever leads; its message id makes that once.
async fn store_surely(client: &async_nats::Client, number: u64) -> u64 {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", number.to_string());
    eventually_some(SOON * 2, "the message is stored", async || {
        let payload = number.to_string().into();
        let sent = client.request_with_headers("s.a", headers.clone(), payload);
        let reply = tokio::time::timeout(Duration::from_secs(2), sent).await;
        let reply = reply.ok()?.ok()?;
        let ack: Value = serde_json::from_slice(&reply.payload).expect("a PubAck");
        ack["seq"].as_u64()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_step_down_cost_no_message() {
    let messages: u64 = soak(300, 10_000);
    let cluster = Cluster::start().await;
    let nats = &cluster.nodes[0];
    nats.stream("S", &["s.>"], json!({"num_replicas": 3})).await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let client = nats.client().await;
    for number in 0..messages / 3 {
        store_surely(&client, number).await;
    }
    let mut readers = tokio::task::JoinSet::new();
    for (query, first) in [
        ("from=new", messages / 3),
        ("from=all", 0),
        ("from=all&subject=s.a", 0),
        ("from=seq:100", 99),
    ] {
        let mut stream = bridge.ndjson(&format!("{SUBSCRIBE}?{query}")).await;
        readers.spawn(async move {
            for number in first..messages {
                let line = stream.json_line().await.expect("it goes on");
                assert_eq!(line["data"], number, "{query}: {line}");
            }
        });
    }
    let done = Arc::new(AtomicBool::new(false));
    let unrest = async {
        while !done.load(Ordering::Relaxed) {
            nats.step_down("STREAM.LEADER.STEPDOWN.S").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let storing = async {
        for number in messages / 3..messages {
            store_surely(&client, number).await;
            // What a client was told is stored is there for whoever asks afterwards.
            if number % 100 == 0 {
                let query = "from=last&until=now";
                let mut last = bridge.ndjson(&format!("{SUBSCRIBE}?{query}")).await;
                let line = last.json_line().await.expect("the last message");
                assert_eq!(line["data"], number, "{line}");
            }
        }
        while let Some(read) = readers.join_next().await {
            read.expect("each message once, in order");
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(unrest, storing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_until_now_has_all_that_was_stored_before() {
    let rounds: u64 = soak(30, 1000);
    let cluster = Cluster::start().await;
    let nats = &cluster.nodes[0];
    nats.stream("S", &["s.>"], json!({"num_replicas": 3})).await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let client = nats.client().await;
    for round in 0..rounds {
        let seq = store_surely(&client, round).await;
        let after = round.saturating_sub(5);
        for query in [
            format!("last_event_id={after}"),
            format!("from=seq:{}&subject=s.a", after + 1),
        ] {
            let mut stream = bridge
                .ndjson(&format!("{SUBSCRIBE}?{query}&until=now"))
                .await;
            for expected in after + 1..=seq {
                let line = stream.json_line().await.expect("a line");
                assert_eq!(line["seq"], expected, "{query}: {line}");
            }
            assert_eq!(
                stream.json_line().await.expect("the end")["reason"],
                "caught-up"
            );
        }
    }
    eventually(SOON, "nothing is left on the servers", async || {
        nats.stream_state("S").await["consumer_count"] == 0
    })
    .await;
}
