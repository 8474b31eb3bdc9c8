//! `confirm=stream`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Answer, Bridge, Nats, respond};

/// The header block of a stored message, as it is on the wire.
pub(super) fn headers_of(stored: &Value) -> String {
    let encoded = stored["hdrs"].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
}

async fn store(bridge: &Bridge, subject: &str, query: &str) -> Answer {
    let path = format!("/v1/publish/{subject}?confirm=stream&timeout=20s&{query}");
    bridge.post(&path).body("x").send().await
}

#[tokio::test]
async fn the_same_key_is_stored_once() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s.>"], json!({})).await;
    let send = |subject: &str, key: &str| {
        let path = format!("/v1/publish/{subject}?confirm=stream&timeout=20s");
        bridge
            .post(&path)
            .header("idempotency-key", key)
            .body("x")
            .send()
    };
    let first = send("s.a", "k1").await.expect(200);
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(
        first.json(),
        json!({"stream": "S", "seq": 1, "duplicate": false})
    );
    assert_eq!(send("s.a", "k2").await.expect(200).json()["seq"], 2);
    let again = send("s.b", "k1").await.expect(200).json();
    assert_eq!(again, json!({"stream": "S", "seq": 1, "duplicate": true}));
    assert_eq!(nats.stream_state("S").await["messages"], 2);
}

#[tokio::test]
async fn preconditions_hold_or_are_412() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s.>"], json!({})).await;
    store(&bridge, "s.a", "expect_last_seq=0&expect_stream=S")
        .await
        .expect(200);
    store(&bridge, "s.a", "expect_last_subject_seq=1")
        .await
        .expect(200);
    store(&bridge, "s.b", "expect_last_subject_seq=0")
        .await
        .expect(200);

    let wrong = store(&bridge, "s.a", "expect_last_seq=1").await;
    let problem = wrong.expect_problem(412, "wrong-last-sequence");
    assert_eq!(problem["outcome"], "rejected");
    assert_eq!(problem["current"], 3);
    let wrong = store(&bridge, "s.a", "expect_last_subject_seq=1").await;
    assert_eq!(
        wrong.expect_problem(412, "wrong-last-sequence")["current"],
        2
    );
    let wrong = store(&bridge, "s.a", "expect_stream=OTHER").await;
    wrong.expect_problem(412, "wrong-stream");
    assert_eq!(nats.stream_state("S").await["messages"], 3);
}

#[tokio::test]
async fn a_message_lives_as_long_as_its_ttl_where_the_stream_allows_it() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s"], json!({})).await;
    if !nats.client().await.is_server_compatible(2, 11, 0) {
        let answer = store(&bridge, "s", "ttl=60s").await;
        answer.expect_problem(501, "not-supported");
        return;
    }
    nats.stream("T", &["t"], json!({"allow_msg_ttl": true}))
        .await;
    store(&bridge, "s", "ttl=60s")
        .await
        .expect_problem(409, "conflict");
    store(&bridge, "t", "ttl=60s").await.expect(200);
    let headers = headers_of(&nats.stored("T", 1).await);
    assert!(headers.contains("Nats-TTL: 60"), "{headers}");
}

#[tokio::test]
async fn what_the_stream_does_not_take_is_said() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("FULL", &["full"], json!({"max_msgs": 1, "discard": "new"}))
        .await;
    nats.stream("SMALL", &["small"], json!({"max_msg_size": 100}))
        .await;
    store(&bridge, "full", "").await.expect(200);
    store(&bridge, "full", "")
        .await
        .expect_problem(507, "stream-full");

    let path = "/v1/publish/small?confirm=stream&timeout=20s";
    let large = bridge.post(path).body(vec![b'x'; 101]).send().await;
    let problem = large.expect_problem(413, "payload-too-large");
    assert_eq!(problem["limit"], 100);
    assert_eq!(problem["source"], "client");

    let nobody = store(&bridge, "nowhere", "").await;
    let problem = nobody.expect_problem(404, "no-stream");
    assert_eq!(problem["outcome"], "rejected");
}

#[tokio::test]
async fn a_reply_that_is_no_pub_ack_is_never_taken_for_one() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    respond(&nats, "svc", "{\"ok\":true}").await;
    let answer = store(&bridge, "svc", "").await;
    let problem = answer.expect_problem(502, "bad-reply");
    assert_eq!(
        (&problem["outcome"], &problem["retryable"]),
        (&json!("unknown"), &json!(false))
    );
    let keyed = bridge
        .post("/v1/publish/svc?confirm=stream")
        .header("idempotency-key", "k");
    let problem = keyed.send().await.expect_problem(502, "bad-reply");
    assert_eq!(problem["retryable"], true);
}

#[tokio::test]
async fn without_jetstream_there_is_nothing_to_store_in() {
    let nats = Nats::builder().without_jetstream().start().await;
    let bridge = Bridge::start(&nats, "").await;
    store(&bridge, "a", "")
        .await
        .expect_problem(501, "jetstream-not-enabled");
}
