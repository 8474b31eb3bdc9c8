//! Batches while NATS or the client fails.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{body_by_hand, line_codes, ndjson};
use crate::harness::responder::respond;
use crate::harness::{Bridge, Nats, SOON, eventually, round_trip};

#[tokio::test]
async fn disconnected_at_the_start_is_no_incomplete_batch() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.kill9();
    eventually(SOON, "natsway notices", async || {
        bridge
            .post("/v1/publish/a?confirm=none")
            .send()
            .await
            .status
            == 503
    })
    .await;
    for confirm in ["none", "server", "stream"] {
        let answer = ndjson(
            &bridge,
            &format!("confirm={confirm}"),
            "{\"subject\":\"a\"}",
        )
        .await;
        let problem = answer.expect_problem(503, "nats-disconnected");
        assert_eq!(problem["outcome"], "not_sent");
        assert_eq!(problem["retryable"], true);
    }
}

#[tokio::test]
async fn a_batch_may_wait_for_nats() {
    let nats = Nats::start().await;
    let yaml = "api: { batch: { when_disconnected: wait, timeout: 30s } }";
    let bridge = Bridge::start(&nats, yaml).await;
    nats.kill9();
    eventually(SOON, "natsway notices", async || {
        bridge
            .post("/v1/publish/a?confirm=none")
            .send()
            .await
            .status
            == 503
    })
    .await;
    let waiting = bridge
        .post("/v1/publish/a?split=lines")
        .body("1\n2\n")
        .send();
    let waiting = tokio::spawn(waiting);
    nats.restart().await;
    assert_eq!(
        waiting.await.unwrap().expect(200).json(),
        json!({"published": 2})
    );
}

#[tokio::test]
async fn a_lost_link_ends_the_batch_and_says_what_is_unknown() {
    for confirm in ["none", "server", "stream"] {
        let nats = Nats::start().await;
        nats.stream("S", &["s"], json!({})).await;
        let bridge = Bridge::start(&nats, "").await;
        let (sender, body) = body_by_hand();
        let path = format!("/v1/publish/s?split=lines&confirm={confirm}&timeout=20s");
        let batch = tokio::spawn(bridge.post(&path).body(body).send());
        sender.send("1\n2\n3\n".into()).await.unwrap();
        eventually(SOON, "the first lines are stored", async || {
            nats.stream_state("S").await["messages"] == 3
        })
        .await;
        // Stored is not yet confirmed: each reply is there, and a later fence of the same link came back.
        bridge
            .post("/v1/publish/s")
            .body("x")
            .send()
            .await
            .expect(204);
        bridge
            .metric_becomes("natsway_nats_replies_pending", &[], |n| n < 0.5)
            .await;
        nats.kill9();
        let mut line = 3;
        while !batch.is_finished() {
            line += 1;
            // Refused once the answer is there.
            let _ = sender.send(format!("{line}\n").into()).await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let problem = batch.await.unwrap().problem();
        assert_eq!(problem["code"], "batch-incomplete", "{problem}");
        assert!(problem["published"].as_u64() >= Some(3), "{problem}");
        assert_eq!(problem["source"], "nats", "{problem}");
        assert_eq!(problem["outcome"], "unknown", "{problem}");
        assert_eq!(problem["retryable"], false, "{problem}");
        let after = problem["stopped_after_line"].as_u64().unwrap();
        assert!((4..=line).contains(&after), "{problem}");
        match problem["status"].as_u64().unwrap() {
            503 => {
                // Each line that failed was not sent; but of the batch a part was published.
                for line in problem["failed"].as_array().unwrap() {
                    assert_eq!(line["outcome"], "not_sent", "{problem}");
                }
                assert!(problem.get("unknown").is_none(), "{problem}");
            }
            504 => {
                let unknown = &problem["unknown"];
                let (from, to) = (&unknown["from_line"], &unknown["to_line"]);
                assert!(
                    from.as_u64() >= Some(4) && to.as_u64() >= from.as_u64(),
                    "{problem}"
                );
            }
            _ => panic!("{problem}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_after_the_deadline_for_progress() {
    for confirm in ["server", "stream"] {
        let nats = Nats::start().await;
        nats.stream("S", &["s"], json!({})).await;
        let bridge = Bridge::start(&nats, "nats: { ping_interval: 60s }").await;
        nats.pause().await;
        let path = format!("/v1/publish/s?split=lines&confirm={confirm}&timeout=500ms");
        let answer = bridge.post(&path).body("1\n2\n3\n").send().await;
        let problem = answer.expect_problem(504, "batch-incomplete");
        assert_eq!(problem["published"], 0);
        assert_eq!(problem["unknown"], json!({"from_line": 1, "to_line": 3}));
        assert_eq!(problem["outcome"], "unknown");
        assert_eq!(problem["source"], "nats");
        nats.resume();
    }
}

#[tokio::test]
async fn a_denied_line_is_told_and_the_others_arrive() {
    // The second user may not even ask what it may do, so natsway learns of each denial from the
    // server.
    let nats = Nats::builder()
        .config(
            r#"authorization { users: [
                { user: certain, password: x, permissions: { publish: { deny: ["no.>"] } } }
                { user: uncertain, password: x, permissions: {
                    publish: { allow: ["ok.>", "_INBOX_natsway.>", "$JS.API.>"] } } }
            ] }"#,
        )
        .start()
        .await;
    let client = nats.client_as("certain", "x").await;
    let stream = json!({"name": "S", "subjects": ["ok.>"]}).to_string();
    let created = client.request("$JS.API.STREAM.CREATE.S", stream.into());
    created.await.unwrap();
    let line = |subject: &&str| format!("{{\"subject\":\"{subject}\"}}\n");
    let body: String = ["ok.1", "no.2", "ok.3", "no.4"].iter().map(line).collect();
    for user in ["certain", "uncertain"] {
        let yaml = format!("nats: {{ auth: {{ user: {user}, password: x }} }}");
        let bridge = Bridge::start(&nats, &yaml).await;
        for confirm in ["server", "stream"] {
            let query = format!("confirm={confirm}&timeout=20s");
            let answer = ndjson(&bridge, &query, body.clone()).await;
            let problem = answer.expect_problem(422, "batch-incomplete");
            assert_eq!(problem["published"], 2, "{user} {confirm}");
            let denied = "nats-permission-denied".to_owned();
            let expected = [(2, denied.clone()), (4, denied)];
            assert_eq!(line_codes(&problem), expected, "{user} {confirm}");
            assert_eq!(problem["failed"][0]["outcome"], "rejected");
            assert_eq!(
                (&problem["outcome"], &problem["source"]),
                (&json!("rejected"), &json!("nats"))
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_with_what_was_published() {
    let nats = Nats::start().await;
    let yaml = "api: { batch: { idle_timeout: 500ms, body_limit: 100KiB } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let (sender, body) = body_by_hand();
    let silent = tokio::spawn(bridge.post("/v1/publish/a?split=lines").body(body).send());
    sender.send("1\n2\nhalf".into()).await.unwrap();
    let problem = silent
        .await
        .unwrap()
        .expect_problem(422, "batch-incomplete");
    assert_eq!(problem["published"], 2);
    assert_eq!(line_codes(&problem), [(3, "body-timeout".to_owned())]);
    assert_eq!(
        (&problem["outcome"], &problem["source"]),
        (&json!("unknown"), &json!("client"))
    );
    drop(sender);

    let (sender, body) = body_by_hand();
    let silent = tokio::spawn(bridge.post("/v1/publish/a?split=lines").body(body).send());
    silent.await.unwrap().expect_problem(408, "body-timeout");
    drop(sender);

    let declared = bridge
        .post("/v1/publish/a?split=lines")
        .body(vec![b'\n'; 100 * 1024 + 1]);
    declared
        .send()
        .await
        .expect_problem(413, "payload-too-large");
}

#[tokio::test]
async fn while_nobody_leads_a_batch_takes_its_deadline_and_not_one_for_each_line() {
    const EACH: usize = 25;
    // Nobody takes a message, and whoever is asked says that JetStream is between two leaders.
    let nats = Nats::builder().without_jetstream().start().await;
    let error = json!({"code": 503, "err_code": 10008, "description": "temporarily unavailable"});
    let between = json!({ "error": error }).to_string();
    respond(&nats, "$JS.API.STREAM.NAMES", between).await;
    // One more subject has somebody who listens and never answers.
    let client = nats.client().await;
    let _silent = client.subscribe("silent").await.expect("subscribed");
    round_trip(&client).await;
    let bridge = Bridge::start(&nats, "").await;
    let line = |subject: &str| format!("{{\"subject\":\"{subject}\"}}\n").repeat(EACH);
    let batch = async |body: String| {
        let began = Instant::now();
        let answer = ndjson(&bridge, "confirm=stream&timeout=1s", body).await;
        // Twenty-five deadlines would be as many seconds.
        assert!(began.elapsed() < Duration::from_secs(12), "{answer:?}");
        answer
    };
    let answer = batch(line("leaderless")).await;
    let problem = answer.problem();
    assert_eq!(problem["status"], 503, "{problem}");
    // The last try may begin too late to be sent.
    let code = problem["code"].as_str().unwrap();
    let codes = ["jetstream-unavailable", "nats-disconnected"];
    assert!(codes.contains(&code), "{problem}");
    assert_eq!(problem["outcome"], "not_sent", "{problem}");
    let answer = batch(line("leaderless") + &line("silent")).await;
    let problem = answer.expect_problem(504, "batch-incomplete");
    assert_eq!(problem["failed_total"], EACH, "{problem}");
    assert_eq!(problem["unknown"], json!({"from_line": 26, "to_line": 50}));
}

#[tokio::test]
async fn without_jetstream_no_line_is_tried_after_the_first() {
    let nats = Nats::builder().without_jetstream().start().await;
    let bridge = Bridge::start(&nats, "").await;
    let answer = bridge
        .post("/v1/publish/a?split=lines&confirm=stream")
        .body("1\n2\n3\n");
    answer
        .send()
        .await
        .expect_problem(501, "jetstream-not-enabled");
}

#[tokio::test]
async fn a_fence_that_is_not_permitted_is_told_before_anything_is_sent() {
    let nats = Nats::builder()
        .config(
            r#"authorization { users: [ { user: u, password: x, permissions: {
                publish: { allow: ["ok.>"] }, subscribe: { allow: "_INBOX_natsway.>" } } } ] }"#,
        )
        .start()
        .await;
    let bridge = Bridge::start(&nats, "nats: { auth: { user: u, password: x } }").await;
    let send = |confirm: &str| {
        let path = format!("/v1/publish/ok.a?split=lines&confirm={confirm}");
        bridge.post(&path).body("1\n2\n").send()
    };
    send("server")
        .await
        .expect_problem(501, "confirm-unavailable");
    assert_eq!(
        send("none").await.expect(200).json(),
        json!({"published": 2})
    );
}

#[tokio::test]
async fn batches_leave_room_for_others_while_nats_stands_still() {
    let nats = Nats::start().await;
    let yaml = "nats: { ping_interval: 60s, buffer: { messages: 1000, bytes: 1MiB } }";
    let bridge = Bridge::start(&nats, yaml).await;
    nats.pause().await;
    let batches: Vec<_> = (0..8)
        .map(|_| {
            let request = bridge.post("/v1/publish/a?split=lines&timeout=30s");
            tokio::spawn(request.body("1\n".repeat(20_000)).send())
        })
        .collect();
    // Whatever the batches have in the queue by now, single messages still fit.
    for _ in 0..200 {
        let answer = bridge.post("/v1/publish/a?confirm=none").send().await;
        answer.expect(202);
    }
    nats.resume();
    for batch in batches {
        let answer = batch.await.unwrap().expect(200);
        assert_eq!(answer.json()["published"], 20_000);
    }
}
