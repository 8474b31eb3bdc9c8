//! Several tokens in one request.

use serde_json::{Value, json};

use super::{server, tokens};
use crate::harness::Bridge;

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
