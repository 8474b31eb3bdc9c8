//! `/v1/acks`: what a token can do, and what it cannot.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Bridge, Nats, SOON, eventually};

const KEYS: &str = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_KEYS: &str = "k1:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn server(messages: usize) -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({"ack_wait": 3_600_000_000_000_u64}))
        .await;
    nats.store_many("s.a", (0..messages).map(|number| number.to_string()))
        .await;
    nats
}

async fn bridge(nats: &Nats, keys: &str) -> Bridge {
    let builder = Bridge::builder().nats(nats);
    builder.env("NATSWAY_ACK_TOKENS__KEYS", keys).start().await
}

async fn fetch(bridge: &Bridge, max: usize) -> Vec<Value> {
    let path = format!("/v1/streams/S/consumers/c/fetch?max={max}&wait=10s");
    let mut body = bridge.post(&path).send().await.expect(200).json();
    serde_json::from_value(body["messages"].take()).expect("a list")
}

async fn tokens(bridge: &Bridge, max: usize) -> Vec<String> {
    let fetched = fetch(bridge, max).await;
    assert_eq!(fetched.len(), max);
    let token = |message: &Value| message["ack"].as_str().expect("a token").to_owned();
    fetched.iter().map(token).collect()
}

fn path(token: &str, query: &str) -> String {
    format!("/v1/acks/{token}{query}")
}

#[tokio::test]
async fn an_ack_settles_a_message_and_may_be_repeated() {
    let nats = server(2).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 2).await;
    for _ in 0..3 {
        let answer = bridge.post(&path(&tokens[0], "")).send().await.expect(204);
        assert!(answer.body.is_empty());
        // Confirmed means done: no waiting here.
        assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 1);
    }
    bridge
        .post(&path(&tokens[1], "?kind=ack"))
        .send()
        .await
        .expect(204);
    let info = nats.consumer_info("S", "c").await;
    assert_eq!(info["ack_floor"]["stream_seq"], 2);
}

#[tokio::test]
async fn a_nak_brings_a_message_again() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let token = &tokens(&bridge, 1).await[0];
    bridge
        .post(&path(token, "?kind=nak"))
        .send()
        .await
        .expect(204);
    let again = fetch(&bridge, 1).await;
    assert_eq!(
        (&again[0]["seq"], &again[0]["delivered"]),
        (&json!(1), &json!(2))
    );
    // An ack of the earlier delivery settles it as well.
    bridge.post(&path(token, "")).send().await.expect(204);
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 0);
}

#[tokio::test]
async fn a_nak_can_name_a_delay() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let token = &tokens(&bridge, 1).await[0];
    let start = Instant::now();
    let nak = bridge.post(&path(token, "?kind=nak&delay=1s")).send().await;
    nak.expect(204);
    let again = fetch(&bridge, 1).await;
    assert_eq!(again[0]["delivered"], 2);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_term_ends_a_message_and_says_why() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let mut spy = nats.raw().await;
    spy.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.c")
        .await;
    let token = &tokens(&bridge, 1).await[0];
    let term = path(token, "?kind=term&reason=no%20such%20customer");
    bridge.post(&term).send().await.expect(204);
    let advisory = spy.next().await.expect("an advisory");
    let advisory: Value = serde_json::from_slice(&advisory.payload).expect("JSON");
    assert_eq!(advisory["reason"], "no such customer");
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 0);
}

#[tokio::test]
async fn progress_buys_time() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s.>"], json!({})).await;
    nats.consumer("S", "c", json!({"ack_wait": 4_000_000_000_u64}))
        .await;
    nats.store("s.a", "x").await;
    let token = &tokens(&bridge, 1).await[0];
    // Longer than the ack wait in all: without progress it would be delivered again meanwhile.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        let progress = bridge.post(&path(token, "?kind=progress")).send().await;
        progress.expect(204);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(nats.consumer_info("S", "c").await["num_redelivered"], 0);
    bridge.post(&path(token, "")).send().await.expect(204);
}

#[tokio::test]
async fn several_are_settled_at_once_each_with_its_own_result() {
    let nats = server(300).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 300).await;
    let mut acks: Vec<Value> = tokens.iter().map(|token| json!({"token": token})).collect();
    acks[1] = json!({"token": tokens[1], "kind": "nak", "delay": "1h"});
    acks[2] = json!({"token": tokens[2], "kind": "term", "reason": "bad"});
    acks[3] = json!({"token": tokens[3], "kind": "progress"});
    acks[4] = json!({"token": "forged"});
    acks[5] = json!({"token": tokens[5], "kind": "nothing"});
    acks[6] = json!({"token": tokens[6], "delay": "5s"});
    let answer = bridge
        .post("/v1/acks")
        .json(&json!({"acks": acks}))
        .send()
        .await;
    let results = answer.expect(200).json();
    let results = results["results"].as_array().expect("a list");
    assert_eq!(results.len(), 300);
    for (index, result) in results.iter().enumerate() {
        let code = match index {
            4 => Some((403, "ack-token-invalid")),
            5 | 6 => Some((400, "invalid-parameter")),
            _ => None,
        };
        match code {
            None => assert_eq!(*result, json!({"status": 204}), "{index}"),
            Some((status, code)) => {
                assert_eq!(result["status"], status, "{index}");
                assert_eq!(result["problem"]["code"], code, "{index}");
            }
        }
    }
    // 1 and 3 are still to be settled, and 4, 5, 6 were not touched.
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 5);
    for body in [
        "",
        "[]",
        "{}",
        r#"{"acks":[{}]}"#,
        r#"{"acks":[{"token":"x","kinds":"ack"}]}"#,
    ] {
        let answer = bridge.post("/v1/acks").body(body).send().await;
        answer.expect_problem(400, "invalid-body");
    }
    let none = bridge.post("/v1/acks").body(r#"{"acks":[]}"#).send().await;
    assert_eq!(none.expect(200).json(), json!({"results": []}));
}

#[tokio::test]
async fn a_batch_has_a_limit_and_counts_against_the_budget() {
    let nats = server(0).await;
    let bridge = Bridge::start(&nats, "memory: { bodies: 1MiB }").await;
    let body = |entries: usize| {
        let entries = vec![r#"{"token":""}"#; entries].join(",");
        format!(r#"{{"acks":[{entries}]}}"#)
    };
    let post = async |entries: usize| bridge.post("/v1/acks").body(body(entries)).send().await;
    for entries in [1001, 60_000] {
        let problem = post(entries).await.expect_problem(400, "invalid-body");
        assert_eq!(problem["limit"], 1000);
    }
    let results = post(1000).await.expect(200).json();
    let results = results["results"].as_array().expect("a list");
    assert_eq!(results.len(), 1000);
    assert!(results.iter().all(|result| result["status"] == 403));
    // More at once than there is room for: each is answered, one way or the other.
    let mut at_once = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (client, body) = (bridge.client(), body(1000));
        at_once.spawn(async move { client.post("/v1/acks").body(body).send().await });
    }
    while let Some(answer) = at_once.join_next().await {
        let answer = answer.expect("no panic");
        if answer.status != 200 {
            answer.expect_problem(503, "overloaded");
        }
    }
    bridge
        .metric_becomes("natsway_http_bodies_held_bytes", &[], |held| held == 0.0)
        .await;
}

#[tokio::test]
async fn a_token_works_on_every_replica_with_the_key_and_after_a_restart() {
    let nats = server(3).await;
    let (one, two) = tokio::join!(bridge(&nats, KEYS), bridge(&nats, KEYS));
    let tokens = tokens(&one, 3).await;
    two.post(&path(&tokens[0], "")).send().await.expect(204);
    drop(one);
    let restarted = bridge(&nats, KEYS).await;
    restarted
        .post(&path(&tokens[1], ""))
        .send()
        .await
        .expect(204);
    // A new key is put first, the old one stays.
    let rotated = bridge(&nats, &format!("k2:{}\n{KEYS}", "ab".repeat(32))).await;
    rotated.post(&path(&tokens[2], "")).send().await.expect(204);
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 0);
}

#[tokio::test]
async fn without_a_key_file_the_log_says_what_that_means() {
    let nats = server(1).await;
    let first = Bridge::start(&nats, "").await;
    first.logs("key of this process").await;
    let token = tokens(&first, 1).await.remove(0);
    let second = Bridge::start(&nats, "").await;
    let answer = second.post(&path(&token, "")).send().await;
    answer.expect_problem(403, "ack-token-invalid");
    // A reload keeps the key.
    first.signal(libc::SIGHUP);
    first.logs("configuration reloaded").await;
    first.post(&path(&token, "")).send().await.expect(204);
}

/// Tokens that were never given out: of another key, of no key, and `token` changed at each byte.
fn forged(token: &str, foreign: String) -> Vec<String> {
    let mut bad = vec![foreign, "x".to_owned(), " ".to_owned(), "A".repeat(3000)];
    bad.push("$JS.ACK.S.c.1.1.1.1700000000000000000.0".to_owned());
    for at in 0..token.len() {
        let mut bytes = token.to_owned().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        bad.push(String::from_utf8(bytes).expect("ASCII"));
    }
    bad.push(token[..token.len() - 1].to_owned());
    bad.push(format!("{token}A"));
    bad
}

#[tokio::test]
async fn a_bad_token_reaches_nobody() {
    let nats = server(1).await;
    let yaml = "ack_tokens: { ttl: 1s }";
    let short = Bridge::builder().nats(&nats).yaml(yaml);
    let short = short.env("NATSWAY_ACK_TOKENS__KEYS", KEYS).start().await;
    let expired = tokens(&short, 1).await.remove(0);
    drop(short);
    nats.store("s.a", "1").await;
    let bridge = bridge(&nats, KEYS).await;
    let token = tokens(&bridge, 1).await.remove(0);
    let foreign = {
        nats.store("s.a", "2").await;
        let other = Bridge::builder().nats(&nats);
        let other = other
            .env("NATSWAY_ACK_TOKENS__KEYS", OTHER_KEYS)
            .start()
            .await;
        tokens(&other, 1).await.remove(0)
    };
    eventually(SOON, "the token expires", async || {
        let answer = bridge.post(&path(&expired, "?kind=progress")).send().await;
        answer.status == 410
    })
    .await;
    let mut spy = nats.raw().await;
    spy.subscribe(">").await;

    let bad = forged(&token, foreign);
    let mut problems = tokio::task::JoinSet::new();
    for token in bad.clone() {
        let client = bridge.client();
        problems.spawn(async move {
            let in_path = token.replace(' ', "%20");
            let answer = client.post(&path(&in_path, "")).send().await;
            (answer.status.as_u16(), answer.code(), token)
        });
    }
    while let Some(answered) = problems.join_next().await {
        let (status, code, token) = answered.expect("no panic");
        assert_eq!(
            (status, code.as_str()),
            (403, "ack-token-invalid"),
            "{token}"
        );
    }
    let answer = bridge.post(&path(&expired, "")).send().await;
    answer.expect_problem(410, "ack-token-expired");
    let all = bad.iter().chain([&expired]);
    let acks: Vec<Value> = all.map(|token| json!({"token": token})).collect();
    let answer = bridge.post("/v1/acks").json(&json!({"acks": acks})).send();
    let results = answer.await.expect(200).json();
    let results = results["results"].as_array().expect("a list");
    let (last, forged) = results.split_last().expect("some");
    assert_eq!(last["problem"]["code"], "ack-token-expired");
    assert_eq!(forged.len(), bad.len());
    for result in forged {
        assert_eq!(result["problem"]["code"], "ack-token-invalid", "{result}");
    }

    // A good one is the mark that everything before it has arrived, if anything had.
    bridge.post(&path(&token, "")).send().await.expect(204);
    let seen = spy.drain().await;
    // What natsway and this test's other clients say to themselves.
    let sent: Vec<_> = seen
        .iter()
        .filter(|message| !message.subject.starts_with("_INBOX"))
        .collect();
    assert_eq!(sent.len(), 1, "{seen:?}");
    assert!(sent[0].subject.starts_with("$JS.ACK.S.c."), "{seen:?}");
    assert_eq!(sent[0].text(), "+ACK");
}

#[tokio::test]
async fn a_token_used_again_changes_nothing() {
    let nats = server(2).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 2).await;
    bridge.post(&path(&tokens[0], "")).send().await.expect(204);
    let state = async || {
        let info = nats.consumer_info("S", "c").await;
        let pending = info["num_ack_pending"].clone();
        (
            info["num_redelivered"].clone(),
            pending,
            info["ack_floor"]["stream_seq"].clone(),
        )
    };
    let before = state().await;
    for kind in ["ack", "nak", "term", "progress"] {
        let again = bridge.post(&path(&tokens[0], &format!("?kind={kind}")));
        again.send().await.expect(204);
        let acks = json!({"acks": [{"token": tokens[0], "kind": kind}]});
        let again = bridge.post("/v1/acks").json(&acks).send().await;
        let results = again.expect(200).json();
        assert_eq!(results["results"][0], json!({"status": 204}), "{kind}");
        assert_eq!(state().await, before, "{kind}");
    }
    let path = "/v1/streams/S/consumers/c/fetch?wait=300ms";
    let fetched = bridge.post(path).send().await.expect(200).json();
    assert_eq!(fetched, json!({"messages": []}));
}

#[tokio::test]
async fn parameters_are_checked_before_anything_is_sent() {
    let nats = server(1).await;
    let bridge = Bridge::start(&nats, "").await;
    let token = tokens(&bridge, 1).await.remove(0);
    for query in [
        "?kind=Ack",
        "?kind=",
        "?delay=5s",
        "?kind=nak&delay=5",
        "?kind=ack&reason=x",
        "?kind=term&reason=",
        "?kind=term&reason=a%0Ab",
        "?kinds=ack",
        "?wait=5s",
    ] {
        let answer = bridge.post(&path(&token, query)).send().await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.code(), "invalid-parameter", "{query}");
    }
    assert_eq!(nats.consumer_info("S", "c").await["num_ack_pending"], 1);
}

#[tokio::test]
async fn a_consumer_or_stream_that_is_gone_is_404_at_once() {
    let nats = server(3).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 3).await;
    let given = SystemTime::now();
    // Well below the timeout of 60 s, and below the client's own bound.
    let gone = async |token: &str, code: &str| {
        let answer = bridge.post(&path(token, "?timeout=60s")).send().await;
        answer.expect_problem(404, code);
        let body = json!({"acks": [{"token": token}, {"token": token}]});
        let answer = bridge.post("/v1/acks?timeout=60s").json(&body).send().await;
        let results = answer.expect(200).json();
        assert_eq!(results["results"][1]["problem"]["code"], code);
    };
    nats.js("CONSUMER.DELETE.S.c", &json!({})).await;
    gone(&tokens[0], "consumer-not-found").await;
    // Created anew in a later second, it has delivered nothing: it would never confirm.
    eventually(SOON, "the second of the tokens is over", async || {
        SystemTime::now() >= given + Duration::from_secs(1)
    })
    .await;
    nats.consumer("S", "c", json!({})).await;
    gone(&tokens[1], "consumer-not-found").await;
    nats.js("STREAM.DELETE.S", &json!({})).await;
    gone(&tokens[2], "stream-not-found").await;
}

#[tokio::test]
async fn an_ack_without_nats_may_be_sent_again() {
    let nats = server(1).await;
    let bridge = bridge(&nats, KEYS).await;
    let token = tokens(&bridge, 1).await.remove(0);
    // Stopped, not killed: a consumer that forgot what it delivered confirms nothing.
    nats.stop().await;
    bridge.is_disconnected().await;
    let answer = bridge.post(&path(&token, "")).send().await;
    let problem = answer.expect_problem(503, "nats-disconnected");
    assert_eq!(
        (&problem["outcome"], &problem["retryable"]),
        (&json!("not_sent"), &json!(true))
    );
    nats.restart().await;
    bridge.is_connected().await;
    bridge.post(&path(&token, "")).send().await.expect(204);
}

#[tokio::test]
async fn what_is_fetched_and_settled_is_counted() {
    let nats = server(3).await;
    let bridge = Bridge::start(&nats, "").await;
    let tokens = tokens(&bridge, 3).await;
    for kind in ["ack", "nak"] {
        let query = format!("?kind={kind}");
        bridge
            .post(&path(&tokens[0], &query))
            .send()
            .await
            .expect(204);
    }
    let acks = json!({"acks": [{"token": tokens[1]}, {"token": "forged", "kind": "term"}]});
    bridge.post("/v1/acks").json(&acks).send().await.expect(200);
    let metrics = bridge.metrics().await;
    for (name, labels, value) in [
        (
            "acks_total",
            &[("kind", "ack"), ("result", "confirmed")][..],
            2.0,
        ),
        (
            "acks_total",
            &[("kind", "nak"), ("result", "confirmed")],
            1.0,
        ),
        (
            "acks_total",
            &[("kind", "term"), ("result", "refused")],
            1.0,
        ),
        ("acks_total", &[("kind", "ack"), ("result", "failed")], 0.0),
        ("ack_retries_total", &[], 0.0),
        ("fetch_messages_total", &[("result", "delivered")], 3.0),
        ("fetch_messages_total", &[("result", "given_back")], 0.0),
        ("fetch_messages_total", &[("result", "left")], 0.0),
        ("fetches_waiting", &[], 0.0),
    ] {
        let found = metrics.get(&format!("natsway_{name}"), labels);
        assert_eq!(found, Some(value), "{name} {labels:?}");
    }
    let pulls = metrics.get("natsway_fetch_pulls_total", &[("result", "ended")]);
    assert!(pulls >= Some(1.0), "{pulls:?}");
}
