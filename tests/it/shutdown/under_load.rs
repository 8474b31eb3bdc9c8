//! SIGTERM while everything is in use at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::client::Opened;
use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, within};

const GRACE: Duration = Duration::from_secs(20);

/// Answers each request after a while, so that some are always in flight.
async fn respond_slowly(nats: &Nats) {
    let client = nats.client().await;
    let mut requests = client.subscribe("slow").await.unwrap();
    round_trip(&client).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let client = client.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let reply = request.reply.expect("a request");
                client.publish(reply, request.payload).await.unwrap();
            });
        }
    });
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Publishes that were confirmed.
    confirmed: AtomicUsize,
    /// Requests that were answered.
    answered: AtomicUsize,
}

/// Publishes on a new connection each time; returns when one was refused.
async fn publish_by_new_connections(address: String, seen: Arc<Seen>) -> Instant {
    let head = "POST /v1/publish/ticks.a HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    loop {
        let Some(mut raw) = Connection::try_tcp(&address).await else {
            return Instant::now();
        };
        assert_eq!(raw.request(head, b"1").await.status, 204);
        seen.confirmed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Publishes on one connection until natsway says that it closes it.
async fn publish_until_close(mut raw: Connection, seen: Arc<Seen>) {
    let head = "POST /v1/publish/ticks.b HTTP/1.1\r\nHost: localhost";
    loop {
        let answer = raw.request(head, b"1").await;
        assert_eq!(answer.status, 204);
        seen.confirmed.fetch_add(1, Ordering::SeqCst);
        if answer.header("connection") == Some("close") {
            return;
        }
    }
}

/// Asks the slow one on one connection until natsway says that it closes it.
async fn ask_until_close(mut raw: Connection, seen: Arc<Seen>) {
    let head = "POST /v1/request/slow HTTP/1.1\r\nHost: localhost";
    loop {
        let answer = raw.request(head, b"mine").await;
        assert_eq!((answer.status, &*answer.body), (200, &b"mine"[..]));
        seen.answered.fetch_add(1, Ordering::SeqCst);
        if answer.header("connection") == Some("close") {
            return;
        }
    }
}

fn assert_draining(end: &Value) {
    assert_eq!(end["reason"], "draining", "{end}");
}

/// Opens a stream of each kind; each task ends when its stream has, with its reason.
async fn open_streams(bridge: &Bridge, streams: &mut JoinSet<()>) {
    let sse = bridge.sse("/v1/subscribe/ticks.%3E").await;
    let replay = bridge.sse("/v1/streams/S/subscribe?from=all").await;
    let mut ndjson = bridge.ndjson("/v1/subscribe/ticks.%3E").await;
    let ws = bridge.ws("/v1/subscribe/ticks.%3E").await;
    let mut multiplexed = bridge.ws("/v1/ws").await;
    let subscribe = json!({"op": "subscribe", "id": "s", "subject": "ticks.>"});
    multiplexed.send(&subscribe).await;
    assert_eq!(multiplexed.next().await["op"], "ok");
    for stream in [sse, replay] {
        streams.spawn(ends(stream));
    }
    streams.spawn(async move {
        while let Some(line) = ndjson.json_line().await {
            if line["notice"] == "end" {
                assert_draining(&line);
                return assert!(ndjson.json_line().await.is_none());
            }
        }
        panic!("the stream ended without a reason");
    });
    for mut ws in [ws, multiplexed] {
        streams.spawn(async move {
            let mut end = None;
            loop {
                match ws.next_frame().await.expect("it is closed with a frame") {
                    Message::Close(_) => break,
                    Message::Text(text) => {
                        let frame: Value = serde_json::from_str(&text).unwrap();
                        let is_end = frame["notice"] == "end" || frame["op"] == "end";
                        assert!(end.is_none(), "{frame} after the end");
                        end = is_end.then_some(frame);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_draining(&end.expect("it ended with a reason"));
        });
    }
}

async fn ends(mut stream: Opened) {
    while let Some(event) = stream.event().await {
        if event.event.as_deref() == Some("end") {
            assert_draining(&event.json());
            return assert!(stream.chunk().await.is_none());
        }
    }
    panic!("the stream ended without a reason");
}

/// Notes when readiness turns.
async fn readiness_turns(admin: String) -> Instant {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    loop {
        let answer = client.get(format!("http://{admin}/readyz")).send().await;
        match answer.map(|answer| answer.status().as_u16()) {
            Ok(200) => tokio::time::sleep(Duration::from_millis(2)).await,
            Ok(503) => return Instant::now(),
            other => panic!("{other:?} before readiness turned"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_costs_nobody_anything() {
    let nats = Nats::start().await;
    nats.stream("S", &["ticks.>"], json!({})).await;
    respond_slowly(&nats).await;
    let yaml = "shutdown: { ready_delay: 3s, grace: 20s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let seen = Arc::<Seen>::default();
    let (mut streams, mut clients, mut refused) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for _ in 0..4 {
        open_streams(&bridge, &mut streams).await;
    }
    for _ in 0..8 {
        clients.spawn(publish_until_close(bridge.raw().await, Arc::clone(&seen)));
        clients.spawn(ask_until_close(bridge.raw().await, Arc::clone(&seen)));
        let address = bridge.address().to_owned();
        refused.spawn(publish_by_new_connections(address, Arc::clone(&seen)));
    }
    let turns = tokio::spawn(readiness_turns(bridge.admin().to_owned()));
    eventually(SOON, "everything is in use", async || {
        let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        of(&seen.confirmed) > 200 && of(&seen.answered) >= 16
    })
    .await;
    let signalled = Instant::now();
    bridge.sigterm();
    let status = bridge.wait_exit(SOON).await;
    assert!(signalled.elapsed() < GRACE, "{:?}", signalled.elapsed());
    assert_eq!(status.code(), Some(0));
    let turned = within(SOON, "readiness turns", turns).await.unwrap();
    within(SOON, "every client is done", async {
        while let Some(at) = refused.join_next().await {
            let at = at.expect("whoever was let in got an answer");
            assert!(turned < at, "refused {:?} before", turned - at);
        }
        while let Some(done) = clients.join_next().await {
            done.expect("no request in flight is lost");
        }
        while let Some(done) = streams.join_next().await {
            done.expect("every stream ends with a reason");
        }
    })
    .await;
    // The server stores what it has confirmed a moment later.
    let confirmed = seen.confirmed.load(Ordering::SeqCst);
    let what = format!("all {confirmed} that were confirmed are stored");
    eventually(SOON, &what, async || {
        nats.stream_state("S").await["messages"] == confirmed
    })
    .await;
}
