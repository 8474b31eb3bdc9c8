//! What a fetch may hold.

use serde_json::{Value, json};

use super::{FETCH, fetch, messages, server};
use crate::harness::{Bridge, Nats, SOON, eventually};

/// The most bytes of an answer.
const ANSWER: usize = 8 << 20;

#[tokio::test]
async fn an_answer_ends_at_8_mib_of_json_whatever_the_messages_become() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    // Each control character is six bytes of JSON.
    let grows = "\u{1}".repeat(100_000);
    nats.store_many("s.a", std::iter::repeat_n(grows, 40)).await;
    let mut left = 40;
    while left > 0 {
        let answer = bridge.post(&format!("{FETCH}?max=100&wait=20s"));
        let answer = answer.send().await.expect(200);
        assert!(
            answer.body.len() < ANSWER + 700_000,
            "{}",
            answer.body.len()
        );
        left -= messages(answer).len();
    }
    let info = nats.consumer_info("S", "c").await;
    assert_eq!(info["num_ack_pending"], 40);
    let again = info["num_redelivered"].as_u64().expect("a number");
    assert!(again <= 2, "{again} were given back");
}

#[tokio::test]
async fn what_becomes_of_messages_counts_against_the_budget() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    let grows = "\u{1}".repeat(200_000);
    nats.store_many("s.a", std::iter::repeat_n(grows, 3)).await;
    // One message becomes 1.2 MB, for which there is no room.
    let answer = bridge.post(&format!("{FETCH}?max=3&wait=5s")).send().await;
    answer.expect_problem(503, "overloaded");
    drained(&bridge).await;
    // Given back, so that somebody with more room gets it at once.
    let roomy = Bridge::start(&nats, "").await;
    let mut again = fetch(&roomy, "max=3&wait=20s").await;
    while again.len() < 3 {
        again.extend(fetch(&roomy, "max=3&wait=20s").await);
    }
    assert!(again.iter().any(|message| message["delivered"] == 2));
}

#[tokio::test]
async fn lines_begin_when_there_is_room_for_the_first() {
    let nats = server().await;
    // For the pull of a MiB and its message, too, but not for 1.35 MB of JSON.
    let bridge = Bridge::start(&nats, "memory: { bodies: 1300000 }").await;
    nats.store("s.a", &"\u{1}".repeat(225_000)).await;
    let request = bridge.post(&format!("{FETCH}?wait=5s"));
    let request = request.header("accept", "application/x-ndjson");
    let problem = request.send().await.expect_problem(503, "overloaded");
    assert_eq!(problem["outcome"], "not_sent");
    drained(&bridge).await;
}

#[tokio::test]
async fn a_message_needs_no_more_room_than_was_drawn_for_its_pull() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    // The pull that brings it has drawn all there is.
    nats.store("s.a", &"x".repeat(600_000)).await;
    let fetched = fetch(&bridge, "max=1&wait=5s").await;
    assert_eq!(fetched[0]["data"].as_str().map(str::len), Some(600_000));
    assert_eq!(fetched[0]["delivered"], 1);
    drained(&bridge).await;
}

#[tokio::test]
async fn only_what_is_written_counts_as_delivered() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let delivered = async || {
        let labels = [("result", "delivered")];
        let name = "natsway_fetch_messages_total";
        bridge.metric(name, &labels).await
    };
    for (stored, lines, count) in [(0, 0, 0.0), (2, 2, 2.0)] {
        nats.store_many("s.a", (0..stored).map(|number| number.to_string()))
            .await;
        let request = bridge.post(&format!("{FETCH}?wait=100ms"));
        let request = request.header("accept", "application/x-ndjson");
        let answer = request.send().await.expect(200);
        assert_eq!(answer.text().lines().count(), lines);
        eventually(SOON, "all are counted", async || delivered().await >= count).await;
        assert!((delivered().await - count).abs() < 0.5);
    }
}

/// Nothing is held any more.
async fn drained(bridge: &Bridge) {
    bridge
        .metric_becomes("natsway_http_bodies_held_bytes", &[], |held| held == 0.0)
        .await;
}

#[tokio::test]
async fn fetches_that_wait_count_against_the_budget() {
    let nats = server().await;
    let yaml = "memory: { bodies: 1MiB }\napi: { jetstream: { concurrency: { limit: 500 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..120 {
        let client = bridge.client();
        waiting.spawn(async move {
            let request = client.post(&format!("{FETCH}?wait=10s"));
            request.send().await
        });
    }
    let mut refused = 0;
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.expect("no panic");
        match answer.status.as_u16() {
            200 => assert!(messages(answer).is_empty()),
            _ => {
                answer.expect_problem(503, "overloaded");
                refused += 1;
            }
        }
    }
    // 64 of 16 KiB fit.
    assert!((1..=60).contains(&refused), "{refused}");
    drained(&bridge).await;
    nats.store("s.a", "x").await;
    assert_eq!(fetch(&bridge, "wait=5s").await.len(), 1);
}

#[tokio::test]
async fn a_large_message_comes_although_a_wait_asks_for_little() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = bridge.client();
    let waiting = tokio::spawn(async move {
        let request = client.post(&format!("{FETCH}?max=10&wait=25s"));
        request.send().await
    });
    eventually(SOON, "the fetch waits at the server", async || {
        nats.consumer_info("S", "c").await["num_waiting"] == 1
    })
    .await;
    nats.store("s.a", &"x".repeat(1_000_000)).await;
    let fetched = messages(waiting.await.expect("no panic"));
    assert_eq!(fetched[0]["data"].as_str().map(str::len), Some(1_000_000));
}

#[tokio::test]
async fn a_stored_message_counts_against_the_budget_while_it_is_read() {
    let nats = Nats::start().await;
    nats.stream("A", &["a"], json!({})).await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    nats.store("a", &"x".repeat(1_000_000)).await;
    nats.store("a", &"x".repeat(700_000)).await;
    let answer = bridge.get("/v1/streams/A/messages/1").send().await;
    answer.expect_problem(503, "overloaded");
    let answer = bridge.get("/v1/streams/A/messages/2").send().await;
    assert_eq!(answer.expect(200).body.len(), 700_000);
    drained(&bridge).await;
}

#[tokio::test]
async fn a_message_with_a_status_is_a_message() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut raw = nats.raw().await;
    for status in ["100 Idle Heartbeat", "404", "409 Consumer Deleted"] {
        let block = format!("NATS/1.0 {status}\r\nA: b\r\n\r\n");
        raw.publish_headers("s.a", "", block.as_bytes(), b"x").await;
    }
    raw.flush().await;
    eventually(SOON, "all are stored", async || {
        nats.stream_state("S").await["messages"] == 3
    })
    .await;
    let fetched = fetch(&bridge, "max=3&wait=10s").await;
    let seqs: Vec<&Value> = fetched.iter().map(|message| &message["seq"]).collect();
    assert_eq!(seqs, [1, 2, 3]);
    let mut replay = bridge
        .ndjson("/v1/streams/S/subscribe?from=all&until=now")
        .await;
    for seq in 1..=3 {
        assert_eq!(replay.json_line().await.expect("a line")["seq"], seq);
    }
}
