//! What holds for a subscription in every form.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::client::Opened;
use crate::harness::ws::Ws;
use crate::harness::{Bridge, Calm, Client, Nats, SOON, eventually, round_trip, soak};

const MULTI: &str = "natsway's own stack";

/// Publishes numbers in order, beside natsway, and waits until the server has them.
async fn publish(client: &async_nats::Client, subject: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let payload = number.to_string().into();
        let sent = client.publish(subject.to_owned(), payload).await;
        sent.expect(MULTI);
    }
    round_trip(client).await;
}

fn envelope(subject: &str, number: usize) -> Value {
    json!({"subject": subject, "encoding": "json", "data": number})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_brings_the_same_messages_in_order() {
    const COUNT: usize = 2000;
    let nats = Nats::start().await;
    // Nobody is slow here, though the machine may be.
    let yaml = "api: { subscribe: { buffer: { messages: 4096 } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut sse = bridge.sse("/v1/subscribe/orders.%3E").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe?subject=orders.%3E").await;
    let mut ws = bridge.ws("/v1/subscribe/orders.%3E").await;
    let client = nats.client().await;
    let publishing = tokio::spawn(async move { publish(&client, "orders.new", 0..COUNT).await });
    for number in 0..COUNT {
        let expected = envelope("orders.new", number);
        assert_eq!(sse.event().await.expect("an event").json(), expected);
        assert_eq!(ndjson.json_line().await.expect("a line"), expected);
        assert_eq!(ws.next().await, expected);
    }
    publishing.await.expect("published");
    assert_eq!(
        nats.subscriptions("orders.>").await,
        1,
        "shared by all three"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_say_what_they_stream() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let sse = bridge.sse("/v1/subscribe/a").await;
    let ndjson = bridge.ndjson("/v1/subscribe/a").await;
    for (opened, content_type) in [
        (&sse, "text/event-stream"),
        (&ndjson, "application/x-ndjson"),
    ] {
        assert_eq!(opened.header("content-type"), Some(content_type));
        assert_eq!(
            opened.header("cache-control"),
            Some("no-store, no-transform")
        );
        assert_eq!(opened.header("x-accel-buffering"), Some("no"));
        assert_eq!(opened.header("content-length"), None);
    }
    let ws = bridge.ws("/v1/subscribe/a").await;
    assert_eq!(ws.response.status().as_u16(), 101);
    assert!(ws.response.headers().contains_key("x-request-id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_subjects_come_on_one_stream_each_in_order() {
    const COUNT: usize = 300;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut stream = bridge
        .ndjson("/v1/subscribe?subject=a.*&subject=b.%3E&subject=c")
        .await;
    let client = nats.client().await;
    for number in 0..COUNT {
        for subject in ["a.x", "b.y.z", "c"] {
            publish(&client, subject, number..number + 1).await;
        }
    }
    let mut next = std::collections::HashMap::from([("a.x", 0), ("b.y.z", 0), ("c", 0)]);
    for _ in 0..3 * COUNT {
        let line = stream.json_line().await.expect("a line");
        let subject = line["subject"].as_str().expect("a subject");
        let expected = next.get_mut(subject).expect("one of the three");
        assert_eq!(line["data"], *expected, "{subject}");
        *expected += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_subscribed_is_refused_with_its_code() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    for (path, status, code) in [
        ("/v1/subscribe/a..b", 400, "invalid-subject"),
        ("/v1/subscribe/a%20b", 400, "invalid-subject"),
        ("/v1/subscribe/a%0D%0APUB%20x", 400, "invalid-subject"),
        ("/v1/subscribe/%C3%A4", 400, "invalid-subject"),
        ("/v1/subscribe/%FF", 400, "invalid-subject"),
        ("/v1/subscribe/a.%3E.b", 400, "invalid-subject"),
        ("/v1/subscribe/%3E", 403, "subject-not-allowed"),
        ("/v1/subscribe/*.b", 403, "subject-not-allowed"),
        ("/v1/subscribe/$SYS.%3E", 403, "subject-not-allowed"),
        ("/v1/subscribe/_INBOX.%3E", 403, "subject-not-allowed"),
        ("/v1/subscribe", 400, "invalid-parameter"),
        (
            "/v1/subscribe?subject=a.*&subject=a.b",
            400,
            "invalid-parameter",
        ),
        ("/v1/subscribe/a?subject=b", 400, "invalid-parameter"),
        ("/v1/subscribe/a?max=0", 400, "invalid-parameter"),
        ("/v1/subscribe/a?format=xml", 400, "invalid-parameter"),
        ("/v1/subscribe/a?encoding=yaml", 400, "invalid-parameter"),
        ("/v1/subscribe/a?queue=b%20c", 400, "invalid-parameter"),
        ("/v1/subscribe/a?confirm=none", 400, "invalid-parameter"),
        ("/v1/subscribe/a?timeout=1h", 400, "invalid-parameter"),
        (
            "/v1/subscribe/a?errors=event&max=0",
            400,
            "invalid-parameter",
        ),
    ] {
        bridge.get(path).send().await.expect_problem(status, code);
        let answer = bridge.raw().await.refused_upgrade(path).await;
        assert_eq!(answer.status, status, "{path} as WebSocket");
        assert_eq!(answer.code().as_deref(), Some(code), "{path} as WebSocket");
    }
    let long = format!("/v1/subscribe/{}", "x".repeat(513));
    bridge
        .get(&long)
        .send()
        .await
        .expect_problem(414, "subject-too-long");
    let accept = bridge.get("/v1/subscribe/a").header("accept", "image/png");
    accept.send().await.expect_problem(406, "not-acceptable");
    let raw = bridge
        .get("/v1/subscribe/a?format=raw")
        .header("accept", "application/x-ndjson");
    raw.send().await.expect_problem(400, "invalid-parameter");
    let mut raw = bridge.raw().await;
    raw.send("HEAD /v1/subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = raw.head().await.expect("an answer");
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    bridge
        .post("/v1/subscribe/a")
        .send()
        .await
        .expect_problem(405, "method-not-allowed");
    let half = [("connection", "upgrade"), ("upgrade", "websocket")];
    let half = half
        .iter()
        .fold(bridge.get("/v1/subscribe/a"), |r, (n, v)| r.header(n, v));
    half.send().await.expect_problem(400, "invalid-header");
    calm.holds().await;
}

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
async fn max_ends_the_stream_after_so_many() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut sse = bridge.sse("/v1/subscribe/a?max=3").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe/a?max=3").await;
    let mut ws = bridge.ws("/v1/subscribe/a?max=3").await;
    let mut raw = bridge.ws("/v1/subscribe/a?max=3&format=raw").await;
    publish(&nats.client().await, "a", 0..10).await;
    for number in 0..3 {
        assert_eq!(
            sse.event().await.expect("an event").json(),
            envelope("a", number)
        );
        assert_eq!(ndjson.json_line().await, Some(envelope("a", number)));
        assert_eq!(ws.next().await, envelope("a", number));
        assert_eq!(raw.next().await, number);
    }
    let end = json!({"notice": "end", "reason": "max"});
    let block = sse.event().await.expect("the end");
    assert_eq!(
        (block.event.as_deref(), block.json()),
        (Some("end"), end.clone())
    );
    assert!(
        block
            .retry
            .is_some_and(|millis| (1000..=5000).contains(&millis))
    );
    assert_eq!(sse.chunk().await, None);
    assert_eq!(ndjson.json_line().await, Some(end.clone()));
    assert_eq!(ndjson.chunk().await, None);
    assert_eq!(ws.next().await, end);
    assert_eq!(ws.closed().await, Some((1000, "max".to_owned())));
    assert_eq!(raw.closed().await, Some((1000, "max".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_queue_group_share_the_messages() {
    const COUNT: usize = 300;
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(bridge.ndjson("/v1/subscribe/jobs?queue=workers").await);
    }
    let mut onlooker = bridge.ndjson("/v1/subscribe/jobs").await;
    assert_eq!(nats.subscriptions("jobs").await, 4);
    let client = nats.client().await;
    publish(&client, "jobs", 0..COUNT).await;
    client.publish("jobs", "\"all\"".into()).await.expect(MULTI);
    round_trip(&client).await;
    let (sender, mut seen) = tokio::sync::mpsc::channel(COUNT + 3);
    let mut tasks = JoinSet::new();
    for (index, mut member) in members.into_iter().enumerate() {
        let sender = sender.clone();
        tasks.spawn(async move {
            while let Some(line) = member.json_line().await {
                if sender.send((index, line["data"].clone())).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut numbers = Vec::new();
    let mut by_member = [0; 3];
    while numbers.len() <= COUNT {
        let (member, data) = seen.recv().await.expect("each message has one member");
        by_member[member] += 1;
        numbers.push(data);
    }
    numbers.sort_by_key(|data| data.as_u64());
    let mut expected: Vec<Value> = vec![json!("all")];
    expected.extend((0..COUNT).map(Value::from));
    assert_eq!(numbers, expected, "each exactly once");
    assert!(by_member.iter().all(|count| *count > 0), "{by_member:?}");
    for number in 0..COUNT {
        assert_eq!(onlooker.json_line().await, Some(envelope("jobs", number)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_reader_that_leaves_ends_the_subscription() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let one = bridge.sse("/v1/subscribe/a").await;
    let two = bridge.ndjson("/v1/subscribe/a").await;
    let ws = bridge.ws("/v1/subscribe/a").await;
    assert_eq!(nats.subscriptions("a").await, 1);
    drop(one);
    drop(ws);
    let mut two = two;
    publish(&nats.client().await, "a", 0..1).await;
    assert_eq!(two.json_line().await, Some(envelope("a", 0)));
    assert_eq!(nats.subscriptions("a").await, 1);
    drop(two);
    // Far sooner than a keep-alive: a closed connection is noticed at once.
    eventually(Duration::from_secs(10), "it is unsubscribed", async || {
        nats.subscriptions("a").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subjects_are_a_thousand_streams() {
    let count = soak(1000, 5000);
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut streams: Vec<Opened> = Vec::with_capacity(count);
    for index in 0..count {
        streams.push(bridge.ndjson(&format!("/v1/subscribe/topic.{index}")).await);
    }
    let client = nats.client().await;
    for round in 0..3 {
        for index in 0..count {
            let subject = format!("topic.{index}");
            let sent = client.publish(subject, round.to_string().into()).await;
            sent.expect(MULTI);
        }
    }
    round_trip(&client).await;
    for (index, stream) in streams.iter_mut().enumerate() {
        for round in 0..3 {
            let expected = envelope(&format!("topic.{index}"), round);
            assert_eq!(stream.json_line().await, Some(expected));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_get_no_stream() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "cors: { origins: [\"https://app.example\"] }").await;
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://evil.example", false),
        ("https://app.example.evil.example", false),
        ("null", false),
    ] {
        let sse = bridge
            .get("/v1/subscribe/a?max=1")
            .header("origin", origin)
            .stream()
            .await;
        let status = if allowed { 200 } else { 403 };
        assert_eq!(sse.status.as_u16(), status, "{origin}");
        let cors = sse.header("access-control-allow-origin");
        assert_eq!(cors, allowed.then_some(origin), "{origin}");
        let headers = [("origin", origin)];
        for path in ["/v1/subscribe/a", "/v1/ws"] {
            let ws = Ws::connect(bridge.address(), path, &headers).await;
            assert_eq!(ws.is_ok(), allowed, "{origin} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_wildcard_shows_nothing_of_natss_own() {
    let nats = Nats::start().await;
    let yaml = "api: { subscribe: { subjects: { root_wildcards: true, deny: [\"secret.>\"] } } }";
    // What is denied overlaps every root wildcard, so it needs a route without a deny list.
    let denied = Bridge::start(&nats, yaml).await;
    denied
        .get("/v1/subscribe/%3E")
        .send()
        .await
        .expect_problem(403, "subject-not-allowed");
    let yaml = "api: { subscribe: { subjects: { root_wildcards: true } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut all = bridge.ndjson("/v1/subscribe/%3E?max=2").await;
    let client = nats.client().await;
    for subject in ["$X.a", "a", "_INBOX.mine", "b.c"] {
        publish(&client, subject, 1..2).await;
    }
    assert_eq!(all.json_line().await, Some(envelope("a", 1)));
    assert_eq!(all.json_line().await, Some(envelope("b.c", 1)));
    let end = all
        .json_line()
        .await
        .expect("what is not shown does not count");
    assert_eq!(end["reason"], "max");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_a_limit_in_the_process() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { subscribe: { streams_max: 2 } }").await;
    let one = bridge.sse("/v1/subscribe/a").await;
    let _two = bridge.ws("/v1/subscribe/b").await;
    bridge
        .get("/v1/subscribe/c")
        .send()
        .await
        .expect_problem(429, "too-many-streams");
    let event = bridge
        .get("/v1/subscribe/c?errors=event")
        .stream()
        .await
        .expect_ok();
    let mut event = event;
    assert_eq!(
        event.event().await.expect("a problem").json()["code"],
        "too-many-streams"
    );
    drop(one);
    eventually(SOON, "its place is free", async || {
        bridge.get("/v1/subscribe/c").stream().await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_route_streams_its_own_subjects() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(
        &nats,
        "routes:
  - name: order-feed
    match: { method: GET, path: \"/orders/{region}/feed\" }
    subscribe: { subjects: [\"orders.{region}.>\", \"news.{region}\"] }
    params: [max, timeout]
  - name: jobs
    match: { method: GET, path: /jobs }
    subscribe: { subjects: [jobs], queue: workers }
",
    )
    .await;
    let mut ndjson = bridge.ndjson("/orders/eu/feed?max=2&color=red").await;
    let mut ws = bridge.ws("/orders/eu/feed?max=2").await;
    let client = nats.client().await;
    for subject in ["orders.us.new", "orders.eu.new", "news.us", "news.eu"] {
        publish(&client, subject, 1..2).await;
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(ndjson.json_line().await.expect("a line"));
        ws.next().await;
    }
    seen.sort_by_key(|line| line["subject"].to_string());
    assert_eq!(seen, [envelope("news.eu", 1), envelope("orders.eu.new", 1)]);
    assert_eq!(ndjson.json_line().await.expect("the end")["reason"], "max");
    assert_eq!(ws.closed().await, Some((1000, "max".to_owned())));
    for (path, status, code) in [
        ("/orders/eu.%3E/feed", 400, "invalid-subject"),
        ("/orders/*/feed", 400, "invalid-subject"),
        ("/orders/eu/feed?queue=q", 400, "invalid-parameter"),
        ("/orders/eu/feed?subject=b", 400, "invalid-parameter"),
        ("/orders/eu/feed?timeout=1m", 400, "invalid-parameter"),
    ] {
        bridge.get(path).send().await.expect_problem(status, code);
    }
    let _members = [bridge.sse("/jobs").await, bridge.sse("/jobs").await];
    assert_eq!(nats.subscriptions("jobs").await, 2, "each its own member");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routes_own_buffer_holds_where_others_read_the_subject_already() {
    const COUNT: usize = 2000;
    let nats = Nats::start().await;
    let yaml = "
api: { subscribe: { buffer: { messages: 16, bytes: 1MiB } } }
memory: { streams: 256MiB }
routes:
  - name: patient
    match: { method: GET, path: /patient }
    subscribe: { subjects: [big], buffer: { messages: 10000, bytes: 64MiB } }
";
    let bridge = Bridge::start(&nats, yaml).await;
    let _hasty = bridge.sse("/v1/subscribe/big").await;
    let mut patient = bridge.sse("/patient").await;
    let client = nats.client().await;
    // More than sockets hold, so that it waits in the ring while nobody reads.
    for number in 0..COUNT {
        let payload = format!("{{\"number\":{number},\"x\":\"{}\"}}", "x".repeat(10_000));
        client.publish("big", payload.into()).await.unwrap();
    }
    round_trip(&client).await;
    for number in 0..COUNT {
        let event = patient.event().await.unwrap();
        assert_eq!(event.json()["data"]["number"], number, "{:?}", event.event);
    }
}
