//! What cannot be replayed, and to whom nothing is shown.

use serde_json::json;

use super::{SUBSCRIBE, all_seqs, consumers, path, server};
use crate::harness::{Bridge, Nats};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_replayed_is_refused_with_its_code() {
    let nats = server(json!({})).await;
    nats.stream("JOBS", &["jobs.>"], json!({"retention": "workqueue"}))
        .await;
    nats.stream("KV_b", &["$KV.b.>"], json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    for (query, status, code) in [
        ("S/subscribe?from=then", 400, "invalid-parameter"),
        ("S/subscribe?from=seq:-1", 400, "invalid-parameter"),
        ("S/subscribe?until=later", 400, "invalid-parameter"),
        ("S/subscribe?on_slow=drop", 400, "invalid-parameter"),
        ("S/subscribe?queue=q", 400, "invalid-parameter"),
        ("S/subscribe?last_event_id=live", 400, "invalid-parameter"),
        (
            "S/subscribe?subject=s.a&subject=s.*",
            400,
            "invalid-parameter",
        ),
        ("S/subscribe?subject=s..a", 400, "invalid-subject"),
        ("S/subscribe?subject=", 400, "invalid-subject"),
        ("S/subscribe?subject=%3E", 403, "subject-not-allowed"),
        ("S/subscribe?subject=$KV.b.%3E", 403, "subject-not-allowed"),
        ("KV_b/subscribe", 403, "subject-not-allowed"),
        ("NONE/subscribe", 404, "stream-not-found"),
        ("JOBS/subscribe", 409, "conflict"),
        ("a.b/subscribe", 400, "invalid-parameter"),
    ] {
        let answer = bridge.get(&format!("/v1/streams/{query}")).send().await;
        let problem = answer.problem();
        assert_eq!(
            (answer.status.as_u16(), problem["code"].as_str()),
            (status, Some(code)),
            "{query}"
        );
    }
    let request = bridge.get(SUBSCRIBE).header("last-event-id", "live");
    request.send().await.expect_problem(400, "invalid-header");
    let request = bridge.get(SUBSCRIBE).header("accept", "application/json");
    request.send().await.expect_problem(406, "not-acceptable");
    let request = bridge
        .get(&path("format=raw"))
        .header("accept", "application/x-ndjson");
    request
        .send()
        .await
        .expect_problem(400, "invalid-parameter");
    let mut raw = bridge.raw().await;
    raw.send(format!(
        "HEAD {SUBSCRIBE} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ))
    .await;
    let head = raw.head().await.expect("an answer");
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    assert_eq!(consumers(&nats).await, 0, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_shown_that_may_not_be_subscribed_to() {
    let nats = server(json!({})).await;
    nats.stream("COPY", &[], json!({"mirror": {"name": "S"}}))
        .await;
    let yaml =
        "api: { jetstream: { subjects: { allow: [\"s.a.>\", \"s.b\"], deny: [\"s.a.secret\"] } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    for subject in ["s.a.x", "s.a.secret", "s.b", "s.c"] {
        nats.store(subject, "1").await;
    }
    for query in [
        "from=all",
        "subject=s.c",
        "subject=s.a.%3E",
        "subject=s.b&subject=s.c",
    ] {
        let answer = bridge.get(&path(query)).send().await;
        answer.expect_problem(403, "subject-not-allowed");
    }
    let answer = bridge.get("/v1/streams/COPY/subscribe").send().await;
    answer.expect_problem(403, "subject-not-allowed");
    let found = all_seqs(&bridge, "from=all&until=now&subject=s.b&subject=s.a.x").await;
    assert_eq!(found.0, [1, 3]);
    // A mirror says nothing of its subjects, and holds what begins with `$`, too.
    nats.stream("HIDDEN", &["$X.>"], json!({})).await;
    nats.stream(
        "MIX",
        &["m.>"],
        json!({"sources": [{"name": "HIDDEN"}, {"name": "S"}]}),
    )
    .await;
    nats.store("$X.a", "1").await;
    let open = Bridge::start(&nats, "").await;
    crate::harness::eventually(crate::harness::SOON, "all is copied", async || {
        nats.stream_state("MIX").await["messages"] == 5
    })
    .await;
    let mut mixed = open
        .ndjson("/v1/streams/MIX/subscribe?from=all&until=now")
        .await;
    let mut subjects = Vec::new();
    while let Some(line) = mixed.json_line().await {
        subjects.extend(line["subject"].as_str().map(str::to_owned));
    }
    subjects.sort();
    assert_eq!(subjects, ["s.a.secret", "s.a.x", "s.b", "s.c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_told_so() {
    let nats = Nats::builder()
        .config(
            "authorization { users: [
                { user: bridge, password: b, permissions: { publish: { deny: [\"$JS.API.CONSUMER.CREATE.>\"] } } },
                { user: test, password: t } ] }
             no_auth_user: test",
        )
        .start()
        .await;
    nats.stream("S", &["s.>"], json!({})).await;
    let url = format!("nats://bridge:b@{}", nats.host_port());
    let bridge = Bridge::builder().servers(&url).start().await;
    for query in [
        "",
        "from=all",
        "from=all&until=now&subject=s.a",
        "from=last_per_subject",
    ] {
        nats.store("s.a", "1").await;
        let answer = bridge.get(&path(query)).send().await;
        answer.expect_problem(403, "nats-permission-denied");
    }
}
