//! `POST /v1/streams/{stream}/consumers/{consumer}/fetch`.

mod interrupted;
mod limits;
mod lost;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Answer, Bridge, Nats, SOON, eventually};

const FETCH: &str = "/v1/streams/S/consumers/c/fetch";

/// Far longer than any test: what is delivered again before was given back.
const ACK_WAIT: u64 = 3_600_000_000_000;

async fn server() -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({"ack_wait": ACK_WAIT})).await;
    nats
}

fn messages(answer: Answer) -> Vec<Value> {
    let mut body = answer.expect(200).json();
    serde_json::from_value(body["messages"].take()).expect("a list")
}

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| number.to_string())
}

async fn fetch(bridge: &Bridge, query: &str) -> Vec<Value> {
    messages(bridge.post(&format!("{FETCH}?{query}")).send().await)
}

#[tokio::test]
async fn messages_come_as_envelopes_with_what_an_ack_needs() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store("s.a", r#"{"id":7}"#).await;
    nats.store("s.b", "text").await;
    let fetched = fetch(&bridge, "max=10&wait=5s").await;
    assert_eq!(fetched.len(), 2);
    let first = &fetched[0];
    assert_eq!(first["subject"], "s.a");
    assert_eq!(first["data"], json!({"id": 7}));
    assert_eq!(first["encoding"], "json");
    assert_eq!(first["stream"], "S");
    assert_eq!((&first["seq"], &first["delivered"]), (&json!(1), &json!(1)));
    assert_eq!(first["pending"], 1);
    assert!(
        first["time"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert!(first["ack"].as_str().is_some_and(|token| token.len() > 40));
    assert_eq!(fetched[1]["encoding"], "text");
    assert_eq!(fetched[1]["pending"], 0);
    let info = nats.consumer_info("S", "c").await;
    assert_eq!(info["num_ack_pending"], 2);
    assert_eq!(info["num_waiting"], 0);
}

#[tokio::test]
async fn it_answers_when_enough_came_when_no_more_come_and_at_the_end() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store_many("s.a", numbers(7)).await;
    let start = Instant::now();
    assert_eq!(fetch(&bridge, "max=5&wait=60s").await.len(), 5);
    // Two are left: they come although more were asked for.
    assert_eq!(fetch(&bridge, "max=5&wait=60s").await.len(), 2);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let start = Instant::now();
    assert!(fetch(&bridge, "wait=300ms").await.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(fetch(&bridge, "wait=0s").await.is_empty());
}

#[tokio::test]
async fn who_waits_is_woken_by_the_first_message() {
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
    nats.store("s.a", "now").await;
    let fetched = messages(waiting.await.expect("no panic"));
    assert_eq!(fetched.len(), 1);
    assert_eq!(fetched[0]["data"], "now");
}

#[tokio::test]
async fn a_limit_in_bytes_holds() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let kib = "x".repeat(1024);
    nats.store_many("s.a", std::iter::repeat_n(kib, 10)).await;
    assert!(
        fetch(&bridge, "max=10&max_bytes=100&wait=5s")
            .await
            .is_empty()
    );
    let fetched = fetch(&bridge, "max=10&max_bytes=4000&wait=5s").await;
    assert!((1..=3).contains(&fetched.len()), "{}", fetched.len());
    let rest = fetch(&bridge, "max=10&wait=5s").await;
    assert_eq!(fetched.len() + rest.len(), 10);
}

#[tokio::test]
async fn one_answer_holds_at_most_8_mib() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let large = "x".repeat(1_000_000);
    nats.store_many("s.a", std::iter::repeat_n(large, 10)).await;
    let mut left = 10;
    while left > 0 {
        let fetched = fetch(&bridge, "max=100&wait=20s").await.len();
        assert!((1..=8).contains(&fetched), "{fetched}");
        left -= fetched;
    }
}

#[tokio::test]
async fn a_message_over_8_mib_comes_alone() {
    let nats = Nats::builder().config("max_payload: 16MB").start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    nats.store("s.a", &"x".repeat(9 << 20)).await;
    nats.store("s.a", "small").await;
    assert_eq!(fetch(&bridge, "max=10&wait=5s").await.len(), 1);
    assert_eq!(fetch(&bridge, "max=10&wait=5s").await[0]["data"], "small");
}

#[tokio::test]
async fn parameters_are_checked() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    for query in [
        "max=0",
        "max=1001",
        "max=x",
        "max_bytes=0",
        "wait=5",
        "wait=61s",
        "max=1&max=2",
        "subject=a",
        "waits=1s",
    ] {
        let answer = bridge.post(&format!("{FETCH}?{query}")).send().await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.code(), "invalid-parameter", "{query}");
    }
    let answer = bridge.post(&format!("{FETCH}?max=1001")).send().await;
    assert_eq!(answer.problem()["limit"], 1000);
}

#[tokio::test]
async fn only_a_pull_consumer_that_is_there_can_be_fetched_from() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.consumer("S", "push", json!({"deliver_subject": "x"}))
        .await;
    for (path, status, code) in [
        ("S/consumers/push", 409, "conflict"),
        ("S/consumers/none", 404, "consumer-not-found"),
        ("NONE/consumers/c", 404, "stream-not-found"),
        ("S/consumers/a.b", 400, "invalid-parameter"),
        ("S/consumers/a%20b", 400, "invalid-parameter"),
        ("KV_S/consumers/c", 403, "subject-not-allowed"),
    ] {
        let request = bridge.post(&format!("/v1/streams/{path}/fetch?wait=20s"));
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.code(), code, "{path}");
    }
}

#[tokio::test]
async fn ndjson_brings_each_message_as_it_arrives() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store_many("s.a", numbers(300)).await;
    let request = bridge.post(&format!("{FETCH}?max=1000&wait=5s"));
    let mut opened = request
        .header("accept", "application/x-ndjson")
        .stream()
        .await
        .expect_ok();
    assert_eq!(opened.header("content-type"), Some("application/x-ndjson"));
    for number in 0..300 {
        let line = opened.json_line().await.expect("a line");
        assert_eq!(line["data"], number);
        assert!(line["ack"].is_string());
    }
    assert!(opened.json_line().await.is_none());
    let request = bridge.post(&format!("{FETCH}?wait=0s"));
    let request = request.header("accept", "application/x-ndjson");
    assert!(request.send().await.expect(200).body.is_empty());
}

#[tokio::test]
async fn without_acks_there_is_no_token() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.consumer("S", "none", json!({"ack_policy": "none"}))
        .await;
    nats.store("s.a", "x").await;
    let request = bridge.post("/v1/streams/S/consumers/none/fetch?wait=5s");
    let fetched = messages(request.send().await);
    assert_eq!(fetched.len(), 1);
    assert!(fetched[0].get("ack").is_none(), "{fetched:?}");
}

#[tokio::test]
async fn the_consumers_own_limits_are_kept_to() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let limits = json!({"max_batch": 3, "max_expires": 200_000_000, "max_bytes": 2000});
    nats.consumer("S", "narrow", limits).await;
    nats.store_many("s.a", numbers(10)).await;
    let request = bridge.post("/v1/streams/S/consumers/narrow/fetch?max=10&wait=5s");
    assert_eq!(messages(request.send().await).len(), 10);
    // Longer than the consumer lets one pull wait.
    let request = bridge.post("/v1/streams/S/consumers/narrow/fetch?max=10&wait=1s");
    let start = Instant::now();
    assert!(messages(request.send().await).is_empty());
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_full_consumer_delivers_again_after_an_ack() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let full = json!({"max_ack_pending": 1, "ack_wait": ACK_WAIT});
    nats.consumer("S", "one", full).await;
    nats.store_many("s.a", numbers(2)).await;
    let path = "/v1/streams/S/consumers/one/fetch?max=10";
    let first = messages(bridge.post(&format!("{path}&wait=5s")).send().await);
    assert_eq!(first.len(), 1);
    let none = messages(bridge.post(&format!("{path}&wait=200ms")).send().await);
    assert!(none.is_empty());
    let token = first[0]["ack"].as_str().expect("a token");
    let acked = bridge.post(&format!("/v1/acks/{token}")).send().await;
    acked.expect(204);
    let second = messages(bridge.post(&format!("{path}&wait=20s")).send().await);
    assert_eq!(second[0]["seq"], 2);
}

#[tokio::test]
async fn two_replicas_share_a_consumer() {
    let nats = server().await;
    let (one, two) = tokio::join!(Bridge::start(&nats, ""), Bridge::start(&nats, ""));
    nats.store_many("s.a", numbers(40)).await;
    let drain = async |bridge: &Bridge| {
        let mut seqs = Vec::new();
        loop {
            let fetched = fetch(bridge, "max=3&wait=100ms").await;
            if fetched.is_empty() {
                return seqs;
            }
            seqs.extend(fetched.iter().filter_map(|message| message["seq"].as_u64()));
        }
    };
    let (a, b) = tokio::join!(drain(&one), drain(&two));
    let mut seqs: Vec<u64> = a.into_iter().chain(b).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_who_wait_each_get_their_share() {
    let nats = server().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = bridge.client();
        waiting.spawn(async move {
            let request = client.post(&format!("{FETCH}?max=10&wait=25s"));
            messages(request.send().await).len()
        });
    }
    eventually(SOON, "all wait at the server", async || {
        nats.consumer_info("S", "c").await["num_waiting"].as_u64() >= Some(15)
    })
    .await;
    nats.store_many("s.a", numbers(20)).await;
    let mut total = 0;
    // Whoever gets none waits for more: some for the others, until there is nothing left.
    while total < 20 {
        total += waiting
            .join_next()
            .await
            .expect("one more")
            .expect("no panic");
    }
    assert_eq!(total, 20);
    let info = nats.consumer_info("S", "c").await;
    assert_eq!(
        info["num_redelivered"], 0,
        "nothing was taken in vain: {info}"
    );
}
