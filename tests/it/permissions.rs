//! A user whom NATS does not let do everything: no denied message gets a 2xx, no allowed one
//! anything else.

mod changes;

use std::sync::Arc;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, within};

/// Users by what natsway can know of their permissions at connect.
const USERS: &str = r#"
authorization { users = [
  # May ask the server about itself: natsway knows the rules.
  { user: known, password: pw, permissions: { publish: { deny: ["no.>"] } } }
  # May not: natsway finds out by its fences.
  { user: unknown, password: pw, permissions: {
      publish: { allow: ["yes.>", "_INBOX_natsway.>"] }
      subscribe: { allow: ["yes.>", "_INBOX_natsway.>"] } } }
  # Has no inbox at all.
  { user: noinbox, password: pw, permissions: { publish: { allow: ["yes.>"] }, subscribe: { allow: ["yes.>"] } } }
  # May read its inbox, but not write there: as with an account that only imports replies.
  { user: readonly, password: pw, permissions: { publish: { deny: ["_INBOX_natsway.>", "no.>"] } } }
  { user: witness, password: pw }
] }
"#;

async fn bridge_as(nats: &Nats, user: &str, more: &str) -> Bridge {
    let yaml = format!("nats: {{ auth: {{ user: {user}, password: pw }} }}\n{more}");
    Bridge::start(nats, &yaml).await
}

/// A thousand publishes at once, every other one of them denied; each with the answer that it must
/// have. What was accepted is delivered, and nothing that was denied.
async fn a_thousand_of_which_half_are_denied(
    user: &str,
    workers: usize,
    query: &str,
    allowed: u16,
    denied: (u16, &'static str),
) {
    let nats = Nats::builder().config(USERS).start().await;
    let witness = nats.client_as("witness", "pw").await;
    let stream = json!({"name": "S", "subjects": ["yes.>"], "storage": "memory"});
    let create = witness.request("$JS.API.STREAM.CREATE.S", stream.to_string().into());
    create.await.unwrap();
    let mut seen = witness.subscribe("*.*").await.unwrap();
    round_trip(&witness).await;
    let bridge = bridge_as(&nats, user, &format!("runtime: {{ workers: {workers} }}")).await;
    let mut publishes = JoinSet::new();
    for i in 0..1000 {
        let kind = ["yes", "no"][i % 2];
        let publish = bridge.post(&format!("/v1/publish/{kind}.{i}{query}"));
        let publish = publish.body("x").send();
        publishes.spawn(async move {
            let answer = publish.await;
            match kind {
                "yes" => drop(answer.expect(allowed)),
                _ => drop(answer.expect_problem(denied.0, denied.1)),
            }
        });
    }
    while let Some(done) = publishes.join_next().await {
        done.expect("each publish is answered as it must be");
    }
    // What natsway was to send has left it with this, over the same link.
    bridge.sigterm();
    bridge.wait_exit(SOON).await;
    witness.publish("the.end", "".into()).await.unwrap();
    let mut delivered = 0;
    loop {
        let message = within(SOON, "the end", seen.next()).await.unwrap();
        if message.subject.as_str() == "the.end" {
            break;
        }
        assert!(!message.subject.starts_with("no."), "{}", message.subject);
        delivered += usize::from(message.subject.starts_with("yes."));
    }
    let accepted = if allowed < 300 { 500 } else { 0 };
    assert_eq!(delivered, accepted);
}

const DENIED: (u16, &str) = (403, "nats-permission-denied");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_denied_message_is_confirmed_where_the_rules_are_known() {
    for workers in [1, 2] {
        a_thousand_of_which_half_are_denied("known", workers, "", 204, DENIED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_denied_message_is_confirmed_where_they_are_not() {
    for workers in [1, 2] {
        a_thousand_of_which_half_are_denied("unknown", workers, "", 204, DENIED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_denied_message_is_confirmed_without_an_inbox() {
    const UNAVAILABLE: (u16, &str) = (501, "confirm-unavailable");
    for workers in [1, 2] {
        a_thousand_of_which_half_are_denied("noinbox", workers, "", 501, UNAVAILABLE).await;
        for (query, allowed) in [("?confirm=none", 202), ("?confirm=stream", 200)] {
            a_thousand_of_which_half_are_denied("readonly", workers, query, allowed, DENIED).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_request_is_told_at_once() {
    let nats = Nats::builder().config(USERS).start().await;
    for user in ["known", "unknown"] {
        let bridge = bridge_as(&nats, user, "").await;
        let answer = bridge
            .post("/v1/request/no.way?timeout=20s")
            .body("?")
            .send()
            .await;
        answer.expect_problem(403, "nats-permission-denied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rights_on_the_inbox_the_server_cannot_be_asked_to_confirm() {
    let nats = Nats::builder().config(USERS).start().await;
    nats.client_as("known", "pw").await;
    for user in ["noinbox", "readonly"] {
        let bridge = bridge_as(&nats, user, "").await;
        let answer = bridge.post("/v1/publish/yes.1").body("x").send().await;
        answer.expect_problem(501, "confirm-unavailable");
        let answer = bridge
            .post("/v1/publish/yes.1?confirm=none")
            .body("x")
            .send()
            .await;
        answer.expect(202);
        bridge.logs("_INBOX_natsway.>").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_taken_away_counts_at_once() {
    const BEFORE: &str = r#"authorization { users = [ { user: u, password: pw } ] }"#;
    const AFTER: &str = r#"authorization { users = [
        { user: u, password: pw, permissions: { publish: { deny: ["later.no"] } } } ] }"#;
    let nats = Nats::builder().config(BEFORE).start().await;
    let bridge = bridge_as(&nats, "u", "").await;
    bridge
        .post("/v1/publish/later.no")
        .body("x")
        .send()
        .await
        .expect(204);
    nats.reload(AFTER).await;
    eventually(SOON, "the denial counts", async || {
        let answer = bridge.post("/v1/publish/later.no").body("x").send().await;
        answer.status == 403
    })
    .await;
    bridge
        .post("/v1/publish/later.yes")
        .body("x")
        .send()
        .await
        .expect(204);
}

/// Users whose permissions the server quotes, shares between members, or limits.
const QUOTED: &str = r#"
authorization { users = [
  { user: quoted, password: pw, permissions: {
      publish: { deny: ["no.>", "$SYS.REQ.USER.INFO"] }, subscribe: { deny: ["no.>", "member g"] } } }
] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_counts_whatever_characters_the_subject_has() {
    let nats = Nats::builder().config(QUOTED).start().await;
    let bridge = bridge_as(&nats, "quoted", "").await;
    for subject in ["no.a", "no.a%22b", "no.a%5Cb", "no.%22"] {
        let published = bridge
            .post(&format!("/v1/publish/{subject}"))
            .body("x")
            .send()
            .await;
        published.expect_problem(403, "nats-permission-denied");
        let subscribed = bridge.get(&format!("/v1/subscribe/{subject}")).send().await;
        subscribed.expect_problem(403, "nats-permission-denied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_of_a_denied_group_learns_it_and_nobody_else_does() {
    let nats = Nats::builder().config(QUOTED).start().await;
    let bridge = Arc::new(bridge_as(&nats, "quoted", "").await);
    let mut allowed = bridge.sse("/v1/subscribe/member").await.expect_ok();
    let mut members = JoinSet::new();
    for _ in 0..20 {
        let bridge = Arc::clone(&bridge);
        members.spawn(async move {
            let answer = bridge.get("/v1/subscribe/member?queue=g").send().await;
            answer.expect_problem(403, "nats-permission-denied");
        });
    }
    while let Some(done) = members.join_next().await {
        done.expect("each member is refused");
    }
    bridge
        .post("/v1/publish/member")
        .body("still here")
        .send()
        .await
        .expect(204);
    let event = allowed.event().await.expect("the allowed one goes on");
    assert_eq!(event.json()["data"], "still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_outlive_a_limit_of_subscriptions() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut readers = Vec::new();
    for i in 0..10 {
        readers.push(
            bridge
                .sse(&format!("/v1/subscribe/limited.{i}"))
                .await
                .expect_ok(),
        );
    }
    nats.kill9();
    nats.reconfigure("max_subscriptions: 6");
    nats.restart().await;
    bridge.is_connected().await;
    // A new reader may come before the old ones have theirs again.
    eventually(SOON, "the server has all it takes", async || {
        let more = bridge.get("/v1/subscribe/one.more?timeout=5s");
        more.stream().await.status == 503
    })
    .await;
    nats.kill9();
    nats.reconfigure("");
    nats.restart().await;
    bridge.is_connected().await;
    for (i, reader) in readers.iter_mut().enumerate() {
        let gap = reader.event().await.expect("the stream goes on");
        assert_eq!(gap.event.as_deref(), Some("gap"), "{gap:?}");
        let path = format!("/v1/publish/limited.{i}");
        bridge.post(&path).body("again").send().await.expect(204);
        loop {
            let event = reader.event().await.expect("the stream goes on");
            if event.event.is_none() {
                break assert_eq!(event.json()["data"], "again");
            }
        }
    }
}

/// A user that may not hear secrets.
const NO_SECRETS: &str = r#"
authorization { users = [
  { user: u, password: pw, permissions: { subscribe: { deny: ["secret.>"] } } }
  { user: noinbox, password: pw, permissions: { publish: { allow: ["yes.>"] }, subscribe: { allow: ["yes.>"] } } }
] }
"#;

/// More denials at once than async-nats keeps events.
async fn each_of_a_crowd_learns_that_it_is_denied(user: &str, workers: usize) {
    let nats = Nats::builder().config(NO_SECRETS).start().await;
    let more = format!("runtime: {{ workers: {workers} }}");
    let bridge = Arc::new(bridge_as(&nats, user, &more).await);
    let mut denied = JoinSet::new();
    for i in 0..500 {
        let bridge = Arc::clone(&bridge);
        denied.spawn(async move {
            let path = format!("/v1/subscribe/secret.{i}");
            let answer = bridge.get(&path).send().await;
            answer.expect_problem(403, "nats-permission-denied");
        });
    }
    let mut allowed = JoinSet::new();
    for i in 0..50 {
        let bridge = Arc::clone(&bridge);
        allowed.spawn(async move {
            let path = format!("/v1/subscribe/yes.{i}");
            bridge.sse(&path).await
        });
    }
    while let Some(done) = denied.join_next().await {
        done.expect("whoever is denied is told");
    }
    let streams = allowed.join_all().await;
    assert_eq!(streams.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_crowd_learns_that_it_is_denied_with_one_worker() {
    each_of_a_crowd_learns_that_it_is_denied("u", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_crowd_learns_that_it_is_denied_with_two_workers() {
    each_of_a_crowd_learns_that_it_is_denied("u", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_crowd_learns_that_it_is_denied_without_an_inbox() {
    each_of_a_crowd_learns_that_it_is_denied("noinbox", 2).await;
}
