//! A WebSocket whose client reads all the time, and more slowly than messages come: what it is asked waits
//! behind them, and its answer comes late.
//!
//! It is a Unix socket, since that always holds as much, some 200 KiB, and whoever waits to write more is
//! woken when three quarters were read.

use std::time::Duration;

use memchr::memmem;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::interval;
use tokio_tungstenite::client_async;

use crate::harness::{Bridge, Nats, SOON, within};

const PAUSE: Duration = Duration::from_millis(16);

async fn open(bridge: &Bridge) -> UnixStream {
    let socket = UnixStream::connect(bridge.socket()).await.unwrap();
    let opened = client_async("ws://localhost/v1/subscribe/a", socket).await;
    opened.unwrap().0.into_inner()
}

async fn bridge(nats: &Nats, keep_alive: &str) -> Bridge {
    let yaml = format!(
        "streams: {{ keep_alive: {keep_alive} }}
api: {{ subscribe: {{ buffer: {{ messages: 64, bytes: 2MiB }} }} }}"
    );
    let bridge = Bridge::builder().nats(nats).unix_socket().yaml(&yaml);
    bridge.start().await
}

/// Reads so many bytes, and answers nothing; what it missed because the machine was slow it makes good.
async fn read(socket: &mut UnixStream, bytes: usize, part_bytes: usize) -> Vec<u8> {
    let mut pace = interval(PAUSE);
    let mut all = Vec::new();
    while all.len() < bytes {
        pace.tick().await;
        let mut part = vec![0; part_bytes];
        let read = within(SOON, "more of the stream", socket.read(&mut part));
        let read = read.await.unwrap();
        assert!(read > 0, "closed after {} bytes", all.len());
        all.extend_from_slice(&part[..read]);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_is_told_what_it_lost_and_stays() {
    const BYTES: usize = 2_000_000;
    let nats = Nats::start().await;
    let bridge = bridge(&nats, "1s").await;
    let mut slow = open(&bridge).await;
    let client = nats.client().await;
    let flood = tokio::spawn(async move {
        let payload = format!("\"{}\"", "x".repeat(4000));
        let mut ticks = interval(Duration::from_millis(4));
        loop {
            ticks.tick().await;
            let sent = client.publish("a", payload.clone().into()).await;
            sent.unwrap();
        }
    });
    // Eight keep-alives long, and no answer comes to a ping.
    let read = read(&mut slow, BYTES, 4096).await;
    flood.abort();
    assert!(memmem::find(&read, br#""reason":"slow-client""#).is_some());
    assert_eq!(memmem::find(&read, br#""notice":"end""#), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_take_longer_than_two_keep_alives_to_be_read() {
    const BYTES: usize = 700_000;
    let nats = Nats::start().await;
    let bridge = bridge(&nats, "2s").await;
    let mut slow = open(&bridge).await;
    let client = nats.client().await;
    let payload = format!("\"{}\"", "x".repeat(BYTES));
    client.publish("a", payload.into()).await.unwrap();
    // Eleven seconds long, and each quarter of the socket is taken within one.
    read(&mut slow, BYTES, 1024).await;
}
