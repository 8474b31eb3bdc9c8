//! Messages in a stream that end every connection they are sent over: whoever reads the stream gets
//! past them, and nobody else is kept from JetStream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Bridge, Client, Nats, SOON, eventually, soak, within};

const BLOCKS: [&[u8]; 3] = [
    b"NATS/1.0\r\nA: b\rc\r\n\r\n",
    b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nnothing\r\n\r\n",
];

/// Two good messages before each of these.
async fn server(blocks: &[&[u8]]) -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({"ack_wait": 1_000_000_000_u64}))
        .await;
    let mut raw = nats.raw().await;
    for block in blocks {
        for _ in 0..2 {
            raw.publish("s.a", b"good").await;
        }
        raw.publish_headers("s.a", "", block, b"bad").await;
    }
    raw.flush().await;
    eventually(SOON, "all are stored", async || {
        nats.stream_state("S").await["messages"] == blocks.len() * 3
    })
    .await;
    nats
}

/// Asks JetStream ten times a second; says how many answers were a 200, and how many there were.
async fn others(client: Client, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut good, mut all) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let answer = client.get("/v1/streams").send().await;
        all += 1;
        good += usize::from(answer.status == 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (good, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_passes_over_what_cannot_be_read_and_says_so() {
    let nats = server(&BLOCKS).await;
    let bridge = Bridge::start(&nats, "").await;
    for query in ["from=all", "from=all&subject=s.*", "from=all&until=now"] {
        let path = format!("/v1/streams/S/subscribe?{query}");
        let mut replay = bridge.ndjson(&path).await;
        for seq in 1..=9_u64 {
            let line = within(SOON, query, replay.json_line()).await;
            let line = line.expect("it goes on");
            if seq % 3 == 0 {
                let gap = json!({"notice": "gap", "dropped": 1, "from_seq": seq, "to_seq": seq,
                    "reason": "unreadable"});
                assert_eq!(line, gap, "{query}");
            } else {
                assert_eq!((&line["seq"], &line["data"]), (&json!(seq), &json!("good")));
            }
        }
        if query.contains("until") {
            let end = replay.json_line().await.expect("an end");
            assert_eq!(end["reason"], "caught-up");
        } else {
            let seq = nats.store("s.a", "more").await;
            assert_eq!(replay.json_line().await.expect("it goes on")["seq"], seq);
            nats.js("STREAM.MSG.DELETE.S", &json!({"seq": seq})).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_says_which_message_cannot_be_read() {
    let nats = server(&BLOCKS).await;
    let bridge = Bridge::start(&nats, "").await;
    let fetch = async || {
        let path = "/v1/streams/S/consumers/c/fetch?max=10&wait=2s";
        bridge.post(path).send().await
    };
    for bad in [3, 6, 9] {
        let problem: Value = within(SOON, "the message is named", async {
            loop {
                let answer = fetch().await;
                if answer.status == 502 {
                    break answer.expect_problem(502, "bad-reply");
                }
                assert!(
                    matches!(answer.status.as_u16(), 200 | 503),
                    "{}",
                    answer.text()
                );
            }
        })
        .await;
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains(&format!("message {bad}")), "{detail}");
        assert!(detail.contains("`c`"), "{detail}");
        // For a while nobody is sent into it again.
        fetch().await.expect_problem(502, "bad-reply");
        let deleted = nats.js("STREAM.MSG.DELETE.S", &json!({"seq": bad})).await;
        assert_eq!(deleted["success"], true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_keeps_nobody_from_jetstream() {
    let nats = server(&BLOCKS[..1]).await;
    let bridge = Bridge::start(&nats, "").await;
    let mut live = bridge.ndjson("/v1/streams/S/subscribe?from=all").await;
    let fetch = async || {
        let path = "/v1/streams/S/consumers/c/fetch?max=10&wait=2s";
        bridge.post(path).send().await
    };
    // Until the message is known, it costs the connection.
    eventually(SOON, "the message is named", async || {
        fetch().await.status == 502
    })
    .await;
    while live.json_line().await.expect("it goes on")["notice"] != "gap" {}
    bridge.is_connected().await;
    let stop = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others(bridge.client(), Arc::clone(&stop)));
    let until = tokio::time::Instant::now() + Duration::from_secs(soak(5, 15));
    while tokio::time::Instant::now() < until {
        fetch().await.expect_problem(502, "bad-reply");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (good, all) = others.await.expect("no panic");
    assert_eq!(good, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_passes_over_a_subject_that_is_no_text() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    let mut raw = nats.raw().await;
    raw.publish("s.a", b"good").await;
    raw.publish(b"s.\xff\xfe", b"bad").await;
    raw.publish("s.b", b"good").await;
    raw.flush().await;
    eventually(SOON, "all are stored", async || {
        nats.stream_state("S").await["messages"] == 3
    })
    .await;
    let bridge = Bridge::start(&nats, "").await;
    let mut replay = bridge
        .ndjson("/v1/streams/S/subscribe?from=all&until=now")
        .await;
    let mut told = Vec::new();
    while let Some(line) = within(SOON, "the replay", replay.json_line()).await {
        told.push(line);
    }
    let [first, gap, last, end] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!((&first["seq"], &last["seq"]), (&json!(1), &json!(3)));
    assert_eq!(gap["reason"], "unreadable", "{gap}");
    assert_eq!((&gap["from_seq"], &gap["to_seq"]), (&json!(2), &json!(2)));
    assert_eq!(end["reason"], "caught-up");
    assert!(bridge.exited().is_none());
}
