//! A batch while a stream changes its leader.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::cluster::Cluster;
use crate::harness::{Bridge, SOON, eventually};

const LINES: u64 = 3000;

#[tokio::test]
async fn an_election_delays_a_batch_and_nothing_else() {
    let cluster = Cluster::start().await;
    let nats = &cluster.nodes[0];
    nats.stream("S", &["s"], json!({"num_replicas": 3})).await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;

    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let pieces = futures_util::StreamExt::map(pieces, Ok::<_, std::io::Error>);
    let batch = bridge
        .post("/v1/publish/s?split=lines&confirm=stream&timeout=25s")
        .body(reqwest::Body::wrap_stream(pieces))
        .send();
    let batch = tokio::spawn(batch);
    let lines = |from: u64, to: u64| -> Bytes {
        let lines: String = (from..=to).map(|line| format!("{line}\n")).collect();
        lines.into()
    };
    sender.send(lines(1, 1000)).await.unwrap();
    eventually(SOON, "some lines are stored", async || {
        nats.stream_state("S").await["messages"].as_u64() >= Some(300)
    })
    .await;
    let elected = nats.js("STREAM.LEADER.STEPDOWN.S", &json!({})).await;
    assert!(elected.get("error").is_none(), "{elected}");
    for from in (1001..=LINES).step_by(100) {
        sender.send(lines(from, from + 99)).await.unwrap();
    }
    drop(sender);
    let answer = batch.await.unwrap().expect(200).json();
    assert_eq!(answer["published"], LINES, "{answer}");

    let client = nats.client().await;
    let mut numbers = Vec::new();
    for seq in 1..=nats.stream_state("S").await["last_seq"].as_u64().unwrap() {
        let asked = json!({"seq": seq}).to_string();
        let reply = client.request("$JS.API.STREAM.MSG.GET.S", asked.into());
        let stored: Value = serde_json::from_slice(&reply.await.unwrap().payload).unwrap();
        let data = stored["message"]["data"].as_str().unwrap();
        let text = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        numbers.push(text.parse::<u64>().unwrap());
    }
    assert_eq!(
        numbers,
        (1..=LINES).collect::<Vec<_>>(),
        "each once and in order"
    );
}
