//! What happens to readers while NATS goes away, while they are slow, while streams change.

use std::time::Duration;

use serde_json::{Value, json};

use super::{consumers, fill, next_seq, path, server};
use crate::harness::faults::Proxy;
use crate::harness::{Bridge, Nats, SOON, eventually};

/// Stores a number until it is stored, whatever happens to the server; its message id makes that once.
async fn store_surely(nats: &Nats, number: u64) {
    eventually(SOON, "the message is stored", async || {
        let Ok(client) = async_nats::connect(nats.url()).await else {
            return false;
        };
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", number.to_string());
        let payload = number.to_string().into();
        let reply = client.request_with_headers("s.a", headers, payload).await;
        reply.is_ok_and(|reply| {
            let ack: Value = serde_json::from_slice(&reply.payload).expect("a PubAck");
            ack["seq"].is_u64()
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_costs_no_message() {
    const MESSAGES: u64 = 60;
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    let mut sse = bridge.sse(&path("from=new")).await;
    let mut behind = bridge.ndjson(&path("from=all&subject=s.a")).await;
    let storing = async {
        for number in 0..MESSAGES {
            if number % 20 == 10 {
                nats.restart().await;
            }
            store_surely(&nats, number).await;
        }
    };
    let reading = async {
        for number in 0..MESSAGES {
            let event = sse.event().await.expect("it goes on");
            assert_eq!(
                (event.event.as_deref(), &event.json()["data"]),
                (None, &json!(number))
            );
        }
    };
    let following = async {
        for number in 0..MESSAGES {
            assert_eq!(
                behind.json_line().await.expect("it goes on")["data"],
                number
            );
        }
    };
    tokio::join!(storing, reading, following);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_cost_no_message() {
    const MESSAGES: u64 = 4000;
    let nats = server(json!({})).await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let bridge = Bridge::builder().servers(&proxy.url()).start().await;
    fill(&nats, "s.a", 0..MESSAGES / 2).await;
    let mut replay = bridge.ndjson(&path("from=all")).await;
    let mut live = bridge.ndjson(&path("from=new")).await;
    let storing = async {
        for round in 0..8 {
            let first = MESSAGES / 2 + round * MESSAGES / 16;
            fill(&nats, "s.a", first..first + MESSAGES / 16).await;
            proxy.cut();
            bridge.is_disconnected().await;
            proxy.heal();
            bridge.is_connected().await;
        }
    };
    let reading = async {
        for seq in 1..=MESSAGES {
            assert_eq!(next_seq(&mut replay).await, seq);
        }
    };
    let following = async {
        for seq in MESSAGES / 2 + 1..=MESSAGES {
            assert_eq!(next_seq(&mut live).await, seq);
        }
    };
    tokio::join!(storing, reading, following);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_somebody_deletes_is_made_anew() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    let mut live = bridge.ndjson(&path("from=new")).await;
    for round in 1..=5 {
        let names = nats.js("CONSUMER.NAMES.S", &json!({})).await;
        for name in names["consumers"].as_array().expect("a list") {
            let name = name.as_str().expect("a name");
            nats.js(&format!("CONSUMER.DELETE.S.{name}"), &json!({}))
                .await;
        }
        assert_eq!(nats.store("s.a", "1").await, round);
        assert_eq!(next_seq(&mut live).await, round);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_not_disconnected_and_loses_nothing() {
    const MESSAGES: u64 = 3000;
    let nats = server(json!({})).await;
    // Far more than any socket and the feed hold.
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 120s }").await;
    let mut slow = bridge.sse(&path("from=new")).await;
    let mut fast = bridge.ndjson(&path("from=new")).await;
    let filler = "x".repeat(8000);
    let client = nats.client().await;
    for number in 0..MESSAGES {
        let payload = format!("{{\"n\":{number},\"filler\":\"{filler}\"}}");
        client.publish("s.a", payload.into()).await.expect("sent");
    }
    for number in 0..MESSAGES {
        assert_eq!(fast.json_line().await.expect("a line")["data"]["n"], number);
    }
    for number in 0..MESSAGES {
        let event = slow.event().await.expect("it goes on");
        assert_eq!(
            (event.event.as_deref(), &event.json()["data"]["n"]),
            (None, &json!(number))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_told_what_the_stream_let_go_of() {
    const MESSAGES: u64 = 3000;
    let nats = server(json!({"max_msgs": 200})).await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 120s }").await;
    let mut slow = bridge.ndjson(&path("from=new")).await;
    let filler = "x".repeat(8000);
    let client = nats.client().await;
    for number in 0..MESSAGES {
        let payload = format!("{{\"n\":{number},\"filler\":\"{filler}\"}}");
        client.publish("s.a", payload.into()).await.expect("sent");
    }
    eventually(SOON, "all is stored", async || {
        nats.stream_state("S").await["last_seq"] == MESSAGES
    })
    .await;
    let (mut next, mut gaps) = (1, 0);
    while next <= MESSAGES {
        let line = slow.json_line().await.expect("it goes on");
        if line["notice"] == "gap" {
            assert_eq!(
                (&line["reason"], &line["from_seq"]),
                (&json!("trimmed"), &json!(next))
            );
            let to = line["to_seq"].as_u64().expect("a sequence");
            assert_eq!(line["dropped"], to + 1 - next);
            (next, gaps) = (to + 1, gaps + 1);
        } else {
            assert_eq!(line["seq"], next, "{line}");
            next += 1;
        }
    }
    assert!(gaps > 0, "it was slow enough to miss something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_waits_for_nats_within_its_timeout() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    nats.kill9();
    bridge.is_disconnected().await;
    let problem = bridge.get(&path("timeout=200ms")).send().await;
    problem.expect_problem(503, "nats-disconnected");
    let client = bridge.client();
    let waiting = tokio::spawn(async move { client.ndjson(&path("from=all&timeout=60s")).await });
    nats.restart().await;
    let mut stream = waiting.await.expect("it opened");
    let seq = nats.store("s.a", "1").await;
    assert_eq!(next_seq(&mut stream).await, seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_on_the_server_when_natsway_ends() {
    let nats = server(json!({})).await;
    let yaml = "shutdown: { ready_delay: 0s, grace: 20s }";
    let bridge = Bridge::start(&nats, yaml).await;
    fill(&nats, "s.a", 0..10).await;
    let mut open = Vec::new();
    for query in ["from=new", "from=all&subject=s.a", "from=new&subject=s.b"] {
        open.push(bridge.ndjson(&path(query)).await);
    }
    // One that lingers.
    drop(bridge.ndjson(&path("from=new&subject=s.c")).await);
    assert!(consumers(&nats).await >= 3);
    bridge.sigterm();
    let status = bridge.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(0));
    eventually(Duration::from_secs(2), "nothing is left", async || {
        consumers(&nats).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_take_all_their_memory_hold_up_no_replay() {
    let nats = server(json!({})).await;
    let yaml = "memory: { bodies: 1MiB }\nhttp: { body_timeout: 60s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    for _ in 0..10 {
        let sent = client.publish("s.a", "x".repeat(100_000).into()).await;
        sent.expect("sent");
    }
    eventually(SOON, "all is stored", async || {
        nats.stream_state("S").await["messages"] == 10
    })
    .await;
    let mut body = bridge.raw().await;
    body.send(
        "POST /v1/publish/a?timeout=30s HTTP/1.1\r\nHost: localhost\r\n\
         Content-Length: 1048576\r\n\r\n",
    )
    .await;
    bridge
        .metric_becomes("natsway_http_bodies_held_bytes", &[], |n| n > 1_048_000.0)
        .await;
    let refused = bridge.post("/v1/publish/a").body("x").send().await;
    refused.expect_problem(503, "overloaded");
    let mut stream = bridge.ndjson(&path("from=all&until=now")).await;
    for seq in 1..=10 {
        assert_eq!(next_seq(&mut stream).await, seq);
    }
}
