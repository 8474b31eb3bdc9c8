//! Where a token counts, how long, and that none can be made up.

use serde_json::{Value, json};

use super::{KEYS, bridge, path, server, tokens};
use crate::harness::{Bridge, SOON, eventually};

const OTHER_KEYS: &str = "k1:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

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
