//! Threads: each has a runtime and connections of its own, and all serve the same routes.

use tokio::net::TcpStream;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Client, Nats, SOON};

const THREE: &str = "runtime: { workers: 3 }";
const TWO: &str = "runtime: { workers: 2 }";
const PUBLISH: &str = "POST /v1/publish/a HTTP/1.1\r\nHost: localhost";

async fn has(bridge: &Bridge, worker: &str, connections: f64) {
    let labels = [("worker", worker)];
    let name = "natsway_runtime_worker_connections";
    bridge
        .metric_becomes(name, &labels, |count| count == connections)
        .await;
}

#[tokio::test]
async fn connections_are_dealt_evenly_and_one_alone_goes_to_the_first() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, THREE).await;
    for worker in ["0", "1", "2"] {
        has(&bridge, worker, 0.0).await;
    }
    let alone = TcpStream::connect(bridge.address()).await.unwrap();
    has(&bridge, "0", 1.0).await;
    let mut more = Vec::new();
    for _ in 0..8 {
        more.push(TcpStream::connect(bridge.address()).await.unwrap());
    }
    for worker in ["0", "1", "2"] {
        has(&bridge, worker, 3.0).await;
    }
    drop((alone, more));
    for worker in ["0", "1", "2"] {
        has(&bridge, worker, 0.0).await;
    }
}

#[tokio::test]
async fn what_one_worker_publishes_readers_of_all_receive() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, THREE).await;
    let mut readers = Vec::new();
    for _ in 0..6 {
        readers.push(bridge.sse("/v1/subscribe/a").await.expect_ok());
    }
    for worker in ["0", "1", "2"] {
        has(&bridge, worker, 2.0).await;
    }
    let sent: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    // By connections of all workers in turn.
    let mut publishers = Vec::new();
    for _ in 0..3 {
        publishers.push(Connection::tcp(bridge.address()).await);
    }
    for (number, text) in sent.iter().enumerate() {
        let publisher = &mut publishers[number % 3];
        let answer = publisher.request(PUBLISH, text.as_bytes());
        assert_eq!(answer.await.status, 204);
    }
    for reader in &mut readers {
        for text in &sent {
            let event = reader.event().await.unwrap();
            let expected = format!(r#"{{"subject":"a","encoding":"json","data":{text}}}"#);
            assert_eq!(event.data, Some(expected));
        }
    }
}

/// A worker that has none of the links: every protocol, each by a connection that came second.
#[tokio::test]
async fn every_protocol_is_served_by_a_worker_without_links() {
    let nats = Nats::start().await;
    let bridge = Bridge::builder().nats(&nats).yaml(TWO).unix_socket();
    let bridge = bridge.start().await;
    let _first = TcpStream::connect(bridge.address()).await.unwrap();
    has(&bridge, "0", 1.0).await;
    let mut socket = bridge.ws("/v1/ws").await;
    has(&bridge, "1", 1.0).await;
    let publish = serde_json::json!({"op": "publish", "id": "1", "subject": "a", "data": 1});
    socket.send(&publish).await;
    assert_eq!(socket.next().await["op"], "ok");
    socket.close().await;
    has(&bridge, "1", 0.0).await;
    for client in [
        Client::http2(&bridge.url("")),
        Client::unix(&bridge.socket()),
    ] {
        client
            .post("/v1/publish/a")
            .body("1")
            .send()
            .await
            .expect(204);
        has(&bridge, "1", 1.0).await;
        drop(client);
        has(&bridge, "1", 0.0).await;
    }
}

#[tokio::test]
async fn what_is_cut_on_any_worker_has_its_line_in_the_log() {
    let nats = Nats::start().await;
    let forced = "shutdown: { ready_delay: 200s }\ntelemetry: { log: { access: all } }";
    let bridge = Bridge::start(&nats, &format!("{THREE}\n{forced}")).await;
    let mut readers = Vec::new();
    for _ in 0..6 {
        readers.push(bridge.sse("/v1/subscribe/a").await.expect_ok());
    }
    for worker in ["0", "1", "2"] {
        has(&bridge, worker, 2.0).await;
    }
    bridge.sigterm();
    bridge.logs("shutting down").await;
    bridge.signal(libc::SIGINT);
    assert_eq!(bridge.wait_exit(SOON).await.code(), Some(1));
    let log = bridge.log();
    let lines = log
        .iter()
        .filter(|line| line["target"] == "natsway::access");
    assert_eq!(lines.count(), 6);
}
