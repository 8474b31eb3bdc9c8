//! Thousands of clients that do not behave: they are closed on time, leave nothing behind, and others
//! hardly notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Nats, SOON, eventually, soak, within};

/// A client that sends `head`, then one byte a second, until natsway has closed the connection; how long
/// that took.
async fn dribble(address: String, head: String, connected: Arc<AtomicUsize>) -> Duration {
    // Thousands of strangers do not send in step.
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..1000))).await;
    let start = Instant::now();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let _ = socket.write_all(head.as_bytes()).await;
    connected.fetch_add(1, Ordering::SeqCst);
    let (mut read, mut write) = socket.into_split();
    let writing = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let reading = async { while matches!(read.read(&mut [0; 1024]).await, Ok(1..)) {} };
    tokio::select! { () = writing => {}, () = reading => {} }
    start.elapsed()
}

/// The 99th percentile of publishes, one every few milliseconds, by connections of two workers in turn.
async fn p99(raw: &mut [Connection; 2], requests: usize) -> Duration {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut took = Vec::new();
    for number in 0..requests {
        ticks.tick().await;
        let start = Instant::now();
        let answer = raw[number % 2]
            .request("POST /v1/publish/a HTTP/1.1\r\nHost: localhost", b"x")
            .await;
        assert_eq!(answer.status, 204);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dribbling_heads_and_bodies_are_closed_and_good_traffic_flows() {
    let each = soak(200, 2000);
    let nats = Nats::start().await;
    // Everything that counts is as nobody has set it: fewer places than slow bodies, and 64 MiB for them.
    let limit = soak(Duration::from_secs(1), Duration::from_secs(5));
    let seconds = limit.as_secs();
    let yaml = format!("http: {{ header_timeout: {seconds}s, body_timeout: {seconds}s }}");
    let bridge = Bridge::start(&nats, &yaml).await;
    let requests = soak(200, 2000);
    let mut good = [bridge.raw().await, bridge.raw().await];
    let alone = p99(&mut good, requests).await;
    let before = bridge.fds();
    let connected = Arc::new(AtomicUsize::new(0));
    let mut crowd = JoinSet::new();
    let lengths = [
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n64\r\n",
    ];
    for number in 0..each {
        let address = bridge.address().to_owned();
        let head = "GET / HTTP/1.1\r\nX-Slow: ".to_owned();
        crowd.spawn(dribble(address.clone(), head, Arc::clone(&connected)));
        let length = lengths[number % lengths.len()];
        let head = format!("POST /v1/publish/slow HTTP/1.1\r\nHost: localhost\r\n{length}");
        crowd.spawn(dribble(address, head, Arc::clone(&connected)));
    }
    eventually(SOON, "the crowd is there", async || {
        connected.load(Ordering::SeqCst) == 2 * each
    })
    .await;
    let crowded = p99(&mut good, requests / 4).await;
    let mut slowest = Duration::ZERO;
    within(SOON * 2, "all are closed", async {
        while let Some(closed) = crowd.join_next().await {
            let took = closed.unwrap();
            slowest = slowest.max(took);
        }
    })
    .await;
    eventually(SOON, "file descriptors return to their count", async || {
        bridge.fds() <= before + 1
    })
    .await;
    if soak(false, true) {
        eprintln!(
            "p99 {alone:?} alone, {crowded:?} in the crowd; the last was closed after {slowest:?}"
        );
        assert!(slowest <= limit + Duration::from_secs(10), "{slowest:?}");
        // A worker that the scheduler takes from its core has nobody who takes over.
        let fair = alone.mul_f64(1.2) + Duration::from_millis(2);
        assert!(crowded <= fair, "{crowded:?}, and {alone:?} alone");
    }
}
