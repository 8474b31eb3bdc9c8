//! Batches while a stream has no leader, or gets another one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::cluster::Cluster;
use crate::harness::{Answer, Bridge, Nats, SOON, eventually, soak};

/// A body whose pieces are sent by hand.
fn by_hand() -> (mpsc::Sender<Bytes>, reqwest::Body) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let pieces = futures_util::StreamExt::map(pieces, Ok::<_, std::io::Error>);
    (sender, reqwest::Body::wrap_stream(pieces))
}

fn lines(from: u64, to: u64) -> Bytes {
    let line = |n: u64| format!("{{\"subject\":\"s\",\"data\":{n},\"msg_id\":\"m{n}\"}}\n");
    (from..=to).map(line).collect::<String>().into()
}

async fn publish(bridge: &Bridge, timeout: &str, body: reqwest::Body) -> Answer {
    let request = bridge
        .post(&format!("/v1/publish?confirm=stream&timeout={timeout}"))
        .header("content-type", "application/x-ndjson");
    request.body(body).send().await
}

/// All payloads in the order of their sequences.
async fn stored(nats: &Nats) -> Vec<u64> {
    let client = nats.client().await;
    let last = nats.stream_state("S").await["last_seq"].as_u64().unwrap();
    let mut numbers = Vec::new();
    for seq in 1..=last {
        let asked = json!({"seq": seq}).to_string();
        let reply = client.request("$JS.API.STREAM.MSG.GET.S", asked.into());
        let answer: Value = serde_json::from_slice(&reply.await.unwrap().payload).unwrap();
        let data = answer["message"]["data"].as_str().unwrap();
        let text = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        numbers.push(text.parse().unwrap());
    }
    numbers
}

#[tokio::test]
async fn a_stream_that_is_away_for_a_moment_delays_a_batch_and_nothing_else() {
    let cluster = Cluster::start().await;
    let info = cluster.nodes[0].stream("S", &["s"], json!({})).await;
    let leader = info["cluster"]["leader"].as_str().unwrap();
    let leads = |node: &&Nats| node.name() == leader;
    let home = cluster.nodes.iter().find(leads).unwrap();
    let others: Vec<String> = cluster
        .nodes
        .iter()
        .filter(|node| !leads(node))
        .map(Nats::url)
        .collect();
    let bridge = Bridge::builder().servers(&others.join(",")).start().await;

    let (sender, body) = by_hand();
    let client = bridge.client();
    let batch = tokio::spawn(async move {
        let request = client
            .post("/v1/publish?confirm=stream&timeout=25s")
            .header("content-type", "application/x-ndjson");
        request.body(body).send().await
    });
    sender.send(lines(1, 500)).await.unwrap();
    eventually(SOON, "the first lines are stored", async || {
        home.stream_state("S").await["messages"] == 500
    })
    .await;
    home.kill9();
    sender.send(lines(501, 900)).await.unwrap();
    home.restart().await;
    sender.send(lines(901, 1000)).await.unwrap();
    drop(sender);
    let answer = batch.await.unwrap().expect(200).json();
    assert_eq!(answer["published"], 1000, "{answer}");
    assert_eq!(
        stored(home).await,
        (1..=1000).collect::<Vec<_>>(),
        "in order"
    );
}

#[tokio::test]
async fn a_batch_with_ids_can_be_sent_again_until_all_of_it_is_stored_once() {
    const LINES: u64 = 2000;
    let cluster = Cluster::start().await;
    let nats = &cluster.nodes[0];
    nats.stream("S", &["s"], json!({"num_replicas": 3})).await;
    let bridge = Bridge::builder().servers(&cluster.urls()).start().await;
    let elections = std::cell::Cell::new(soak(1, 3));
    eventually(SOON * 4, "the whole batch is stored", async || {
        let (sender, body) = by_hand();
        let sending = async {
            for from in (1..=LINES).step_by(100) {
                // Nobody reads any more once the batch was given up.
                if sender.send(lines(from, from + 99)).await.is_err() {
                    break;
                }
                if from == 901 && elections.get() > 0 {
                    elections.set(elections.get() - 1);
                    nats.step_down("STREAM.LEADER.STEPDOWN.S").await;
                }
            }
            drop(sender);
        };
        let (answer, ()) = tokio::join!(publish(&bridge, "2s", body), sending);
        if answer.status.is_success() {
            return answer.json()["published"] == LINES;
        }
        let problem = answer.problem();
        assert_eq!(problem["retryable"], false, "{problem}");
        false
    })
    .await;
    let mut numbers = stored(nats).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>(), "each once");
}
