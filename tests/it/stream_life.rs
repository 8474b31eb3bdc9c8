//! How streams live and end: slow clients, outages, revoked rights, age, shutdown.

mod slow;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, soak, within};

const END: [&str; 3] = ["/v1/subscribe/a", "/v1/subscribe/a?format=raw", "/v1/ws"];

async fn publish(client: &async_nats::Client, subject: &str, payload: &[u8]) {
    let sent = client.publish(subject.to_owned(), payload.to_vec().into());
    sent.await.expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_are_counted_for_each_reader_that_is_told() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], json!({})).await;
    nats.store_many("s", ["1", "2", "3"].map(str::to_owned))
        .await;
    let bridge = Bridge::start(&nats, "").await;
    let gaps = async |count: f64| {
        bridge
            .metric_becomes("natsway_stream_gaps_total", &[], |gaps| {
                assert!(gaps < count + 0.5, "{gaps}");
                gaps > count - 0.5
            })
            .await;
    };
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(bridge.ndjson("/v1/subscribe/a").await);
    }
    nats.kill9();
    nats.restart().await;
    for reader in &mut readers {
        let gap = reader.json_line().await.expect("it goes on");
        assert_eq!(gap["reason"], "reconnected", "{gap}");
    }
    gaps(3.0).await;
    let returns = bridge.get("/v1/subscribe/a").header("last-event-id", "x");
    let mut returned = returns.stream().await.expect_ok();
    let gap = returned.event().await.expect("a gap").json();
    assert_eq!(gap["reason"], "client-reconnected", "{gap}");
    gaps(4.0).await;
    // Where notices have no place the close tells of the gap, and natsway has ended the stream.
    let purged = nats.js("STREAM.PURGE.S", &json!({"seq": 3})).await;
    assert_eq!(purged["success"], true, "{purged}");
    let mut raw = bridge
        .ws("/v1/streams/S/subscribe?last_event_id=1&format=raw")
        .await;
    assert_eq!(raw.closed().await, Some((4000, "trimmed".to_owned())));
    gaps(5.0).await;
    for (reason, count) in [("gap", 1.0), ("client-gone", 0.0)] {
        let ends = [("reason", reason)];
        let is = |ends: f64| (ends - count).abs() < 0.5;
        bridge
            .metric_becomes("natsway_stream_ends_total", &ends, is)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_every_stream_says_that_messages_may_be_missing() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut sse = bridge.sse("/v1/subscribe/a").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe?subject=b").await;
    let mut ws = bridge.ws("/v1/subscribe/a").await;
    let mut raw = bridge.ws("/v1/subscribe/a?format=raw").await;
    nats.restart().await;
    let gap = json!({"notice": "gap", "dropped": null, "reason": "reconnected"});
    assert_eq!(sse.event().await.expect("a gap").json(), gap);
    assert_eq!(ndjson.json_line().await, Some(gap.clone()));
    assert_eq!(ws.next().await, gap);
    assert_eq!(raw.closed().await, Some((4000, "reconnected".to_owned())));
    // The gap is announced when the subscription is there again.
    let client = nats.client().await;
    publish(&client, "a", b"1").await;
    publish(&client, "b", b"1").await;
    round_trip(&client).await;
    assert_eq!(sse.event().await.expect("a message").json()["data"], 1);
    assert_eq!(ndjson.json_line().await.expect("a message")["data"], 1);
    assert_eq!(ws.next().await["data"], 1);
}

fn users(permissions: &str) -> String {
    format!(
        "authorization {{ users: [
            {{ user: bridge, password: b, permissions: {{ {permissions} }} }},
            {{ user: test, password: t }}
        ] }}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nats_denies_is_said_before_the_head_or_ends_the_stream() {
    let nats = Nats::builder()
        .config(&users(
            "publish: \">\", subscribe: { deny: [\"secret.>\"] }",
        ))
        .start()
        .await;
    let url = format!("nats://bridge:b@{}", nats.host_port());
    let bridge = Bridge::builder().servers(&url).start().await;
    bridge
        .get("/v1/subscribe/secret.x")
        .send()
        .await
        .expect_problem(403, "nats-permission-denied");
    let both = bridge
        .get("/v1/subscribe?subject=a&subject=secret.y")
        .send()
        .await;
    both.expect_problem(403, "nats-permission-denied");
    eventually(SOON, "the other subject is left again", async || {
        nats.subscriptions("a").await == 0
    })
    .await;
    let mut sse = bridge.sse("/v1/subscribe/public.x").await;
    let mut ndjson = bridge
        .ndjson("/v1/subscribe?subject=public.x&subject=other")
        .await;
    let mut ws = bridge.ws("/v1/subscribe/public.x").await;
    let mut raw = bridge.ws("/v1/subscribe/public.x?format=raw").await;
    let mut multiplexed = bridge.ws("/v1/ws").await;
    multiplexed
        .send(&json!({"op": "subscribe", "id": 1, "subject": "public.x"}))
        .await;
    assert_eq!(multiplexed.next().await, json!({"op": "ok", "id": 1}));
    nats.reload(&users(
        "publish: \">\", subscribe: { deny: [\"secret.>\", \"public.>\"] }",
    ))
    .await;
    let end = json!({"notice": "end", "reason": "permission-denied"});
    let skip_gap =
        |value: Value| (value["notice"] != "gap" && value["op"] != "gap").then_some(value);
    let last = loop {
        let event = sse.event().await.expect("an end");
        if let Some(value) = skip_gap(event.json()) {
            break value;
        }
    };
    assert_eq!(last, end);
    assert_eq!(sse.chunk().await, None);
    let last = loop {
        let line = ndjson.json_line().await.expect("an end");
        if let Some(value) = skip_gap(line) {
            break value;
        }
    };
    assert_eq!(last, end);
    assert_eq!(
        ws.closed().await,
        Some((1008, "permission-denied".to_owned()))
    );
    let (code, reason) = raw.closed().await.expect("a close frame");
    assert!(
        matches!(
            (code, &*reason),
            (1008, "permission-denied") | (4000, "reconnected")
        ),
        "{code} {reason}"
    );
    let last = loop {
        if let Some(value) = skip_gap(multiplexed.next().await) {
            break value;
        }
    };
    assert_eq!(
        last,
        json!({"op": "end", "id": 1, "reason": "permission-denied"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_of_age_with_jitter() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "streams: { max_age: 500ms }").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe/a").await;
    let mut ws = bridge.ws("/v1/subscribe/a?format=raw").await;
    assert_eq!(
        ndjson.json_line().await,
        Some(json!({"notice": "end", "reason": "max-age"}))
    );
    assert_eq!(ndjson.chunk().await, None);
    assert_eq!(ws.closed().await, Some((1001, "max-age".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_every_stream_with_its_reason() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut sse = bridge.sse("/v1/subscribe/a").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe/a").await;
    let mut over_http2 = crate::harness::Client::http2(&bridge.url(""))
        .ndjson("/v1/subscribe/a")
        .await;
    let mut sockets = Vec::new();
    for path in END {
        sockets.push(bridge.ws(path).await);
    }
    bridge.sigterm();
    let end = json!({"notice": "end", "reason": "draining"});
    let event = sse.event().await.expect("an end");
    assert_eq!(
        (event.event.as_deref(), event.json()),
        (Some("end"), end.clone())
    );
    assert!(event.retry.is_some());
    assert!(sse.try_chunk().await.is_none(), "a clean end");
    for stream in [&mut ndjson, &mut over_http2] {
        assert_eq!(stream.json_line().await, Some(end.clone()));
        assert!(stream.try_chunk().await.is_none(), "a clean end");
    }
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Some((1001, "draining".to_owned())));
    }
    let ended = within(SOON, "natsway ends", bridge.wait_exit(SOON)).await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_client_does_not_hold_up_a_shutdown() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "shutdown: { grace: 5s }").await;
    let stalled = bridge.ndjson("/v1/subscribe/a").await;
    let socket = bridge.ws("/v1/subscribe/a").await;
    let client = nats.client().await;
    let payload = vec![b'x'; 64 * 1024];
    for _ in 0..500 {
        publish(&client, "a", &payload).await;
    }
    round_trip(&client).await;
    bridge.sigterm();
    let ended = bridge.wait_exit(Duration::from_secs(20)).await;
    assert_eq!(ended.code(), Some(0));
    drop((stalled, socket));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_is_small() {
    let count = soak(1000, 5000);
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    // What is allocated once, and the first readers, do not count.
    let mut streams = Vec::with_capacity(count + 100);
    for _ in 0..100 {
        streams.push(bridge.raw().await);
        open_raw(streams.last_mut().expect("just pushed")).await;
    }
    let before = bridge.rss_bytes();
    for _ in 0..count {
        let mut connection = bridge.raw().await;
        open_raw(&mut connection).await;
        streams.push(connection);
    }
    let each = bridge.rss_bytes().saturating_sub(before) / count as u64;
    // Of the debug build; the release build needs less than 16 KiB.
    assert!(each < 32 * 1024, "{each} bytes for each idle reader");
}

async fn open_raw(connection: &mut crate::harness::raw_http::Connection) {
    connection
        .send("GET /v1/subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = connection.head().await.expect("a head");
    assert_eq!(head.status, 200);
}
