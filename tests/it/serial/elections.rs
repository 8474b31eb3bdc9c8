//! Leaders step down under publish, fetch and ack: nobody is told that something does not exist, and
//! nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::harness::cluster::Cluster;
use crate::harness::{Answer, Bridge, Client, eventually, soak};

const SETTLED: Duration = Duration::from_secs(120);

/// Only the system account can tell the meta leader to step down.
const ACCOUNTS: &str = "
    accounts {
        app { jetstream: enabled, users: [{user: app, password: p}] }
        sys { users: [{user: system, password: p}] }
    }
    system_account: sys
    no_auth_user: app
";

/// What came about.
#[derive(Default)]
struct Notes {
    stop: AtomicBool,
    stored: Mutex<BTreeSet<u64>>,
    settled: Mutex<BTreeSet<u64>>,
    published: AtomicU64,
}

/// Whether a request has to be made again; fails on every answer that says something is not there.
fn again(what: &str, answer: &Answer) -> bool {
    match answer.status.as_u16() {
        200 | 204 => false,
        503 | 504 => true,
        _ => panic!("{what}: {} {}", answer.status, answer.text()),
    }
}

async fn publish(client: Client, notes: Arc<Notes>) {
    while !notes.stop.load(Ordering::SeqCst) {
        let key = format!("k{}", notes.published.fetch_add(1, Ordering::SeqCst));
        loop {
            let request = client.post("/v1/publish/s.a?confirm=stream&timeout=10s");
            let answer = request.header("idempotency-key", &key).body(key.clone());
            let answer = answer.send().await;
            if !again("publish", &answer) {
                let seq = answer.json()["seq"].as_u64().expect("a sequence");
                notes.stored.lock().await.insert(seq);
                break;
            }
        }
    }
}

async fn work(client: Client, notes: Arc<Notes>) {
    loop {
        let request = client.post("/v1/streams/S/consumers/c/fetch?max=20&wait=1s");
        let answer = request.send().await;
        if again("fetch", &answer) {
            continue;
        }
        let body = answer.json();
        for message in body["messages"].as_array().expect("a list") {
            let token = message["ack"].as_str().expect("a token");
            let path = format!("/v1/acks/{token}?timeout=10s");
            while again("ack", &client.post(&path).send().await) {}
            let seq = message["seq"].as_u64().expect("a sequence");
            notes.settled.lock().await.insert(seq);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_is_never_taken_for_something_that_is_not_there() {
    let cluster = Cluster::with(ACCOUNTS).await;
    let nats = &cluster.nodes[0];
    let system = nats.client_as("system", "p").await;
    nats.stream("S", &["s.>"], json!({"num_replicas": 3})).await;
    let consumer = json!({"num_replicas": 3, "ack_wait": 5_000_000_000_u64});
    nats.consumer("S", "c", consumer).await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let notes = Arc::new(Notes::default());
    let mut publishers = JoinSet::new();
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        publishers.spawn(publish(bridge.client(), Arc::clone(&notes)));
        workers.spawn(work(bridge.client(), Arc::clone(&notes)));
    }
    for _ in 0..soak(1, 60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        nats.step_down("STREAM.LEADER.STEPDOWN.S").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        nats.step_down("CONSUMER.LEADER.STEPDOWN.S.c").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // While there is none, nobody answers.
        let _no_matter = system
            .request("$JS.API.META.LEADER.STEPDOWN", "".into())
            .await;
        assert!(workers.try_join_next().is_none(), "a worker failed");
    }
    notes.stop.store(true, Ordering::SeqCst);
    while let Some(done) = publishers.join_next().await {
        done.expect("a publisher does not fail");
    }
    let stored = notes.stored.lock().await.clone();
    assert!(stored.len() > 20, "only {} were stored", stored.len());
    let settled = eventually(SETTLED, "everything is settled", async || {
        notes.settled.lock().await.is_superset(&stored)
    });
    tokio::select! {
        () = settled => {}
        failed = workers.join_next() => panic!("a worker failed: {failed:?}"),
    }
    let published = notes.published.load(Ordering::SeqCst);
    let state = nats.stream_state("S").await;
    assert_eq!(state["messages"], published, "each was stored exactly once");
    assert_eq!(stored.len() as u64, published);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_is_read_at_once() {
    let cluster = Cluster::start().await;
    let nats = &cluster.nodes[0];
    nats.stream("S", &["s.>"], json!({"num_replicas": 3})).await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    for round in 0..soak(200, 3000) {
        let subject = format!("s.{}", round % 7);
        let path = format!("/v1/publish/{subject}?confirm=stream&timeout=20s");
        let stored = bridge.post(&path).body(round.to_string()).send().await;
        let seq = stored.expect(200).json()["seq"].clone();
        for path in [
            format!("/v1/streams/S/messages/{seq}"),
            format!("/v1/streams/S/messages/last?subject={subject}"),
        ] {
            let read = bridge.get(&path).send().await.expect(200);
            assert_eq!(read.text(), round.to_string(), "{path}");
            assert_eq!(read.header("nats-sequence"), Some(&*seq.to_string()));
        }
    }
}
