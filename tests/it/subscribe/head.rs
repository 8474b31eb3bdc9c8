//! What the head of a stream promises: from then on nothing is missed.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{envelope, publish};
use crate::harness::{Bridge, Client, Nats};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_published_after_the_head_is_missed() {
    // Ten thousand in all: each task opens a stream, publishes at once, and must see it.
    const TASKS: usize = 8;
    const EACH: usize = 1250;
    let nats = Nats::start().await;
    let bridge = Arc::new(Bridge::start(&nats, "").await);
    let client = nats.client().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (http, client) = (bridge.client(), client.clone());
        tasks.spawn(async move {
            for round in 0..EACH {
                see_one(&http, &client, task, round).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("nothing was missed");
    }
}

async fn see_one(http: &Client, client: &async_nats::Client, task: usize, round: usize) {
    let subject = format!("head.{task}.{}", round % 7);
    let path = format!("/v1/subscribe/{subject}");
    let mut stream = match round % 2 {
        0 => http.sse(&path).await,
        _ => http.ndjson(&path).await,
    };
    // Through natsway, and beside it over another connection to the same server.
    if task.is_multiple_of(2) {
        let post = http.post(&format!("/v1/publish/{subject}?confirm=none"));
        post.body(round.to_string()).send().await.expect(202);
    } else {
        publish(client, &subject, round..round + 1).await;
    }
    let seen = match round % 2 {
        0 => stream.event().await.expect("an event").json(),
        _ => stream.json_line().await.expect("a line"),
    };
    assert_eq!(seen, envelope(&subject, round));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_means_a_subscription_even_without_rights_on_the_inbox() {
    let nats = Nats::builder()
        .config(
            "authorization { users: [
                { user: bridge, password: b, permissions: {
                    publish: { deny: [\"_INBOX.>\", \"_INBOX_natsway.>\"] },
                    subscribe: { deny: [\"_INBOX.>\", \"_INBOX_natsway.>\"] } } },
                { user: test, password: t }
            ] }",
        )
        .start()
        .await;
    let url = format!("nats://bridge:b@{}", nats.host_port());
    let bridge = Bridge::builder().servers(&url).start().await;
    let client = nats.client_as("test", "t").await;
    for round in 0..200 {
        see_one(&bridge.client(), &client, round % 2, round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_waits_for_nats_within_its_timeout() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.kill9();
    bridge.is_disconnected().await;
    let problem = bridge.get("/v1/subscribe/a?timeout=200ms").send().await;
    problem.expect_problem(503, "nats-disconnected");
    let event = bridge
        .get("/v1/subscribe/a?timeout=200ms&errors=event")
        .stream()
        .await;
    let mut event = event.expect_ok();
    assert_eq!(event.header("content-type"), Some("text/event-stream"));
    let block = event.event().await.expect("the problem");
    assert_eq!(block.event.as_deref(), Some("problem"));
    assert!(block.retry.is_some());
    let problem = block.json();
    crate::harness::client::assert_well_formed(&problem);
    assert_eq!(problem["code"], "nats-disconnected");
    assert_eq!(problem["request_id"].as_str(), event.header("x-request-id"));
    assert_eq!(event.chunk().await, None);
    let client = bridge.client();
    let waiting = tokio::spawn(async move { client.ndjson("/v1/subscribe/a?timeout=60s").await });
    nats.restart().await;
    let mut stream = waiting.await.expect("it opened");
    publish(&nats.client().await, "a", 0..1).await;
    assert_eq!(stream.json_line().await, Some(envelope("a", 0)));
}
