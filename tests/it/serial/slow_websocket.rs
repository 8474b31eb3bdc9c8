//! A WebSocket whose client reads all the time, and more slowly than messages come: what it is asked waits
//! behind them, and its answer comes late.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::harness::{Bridge, Nats, SOON, within};

/// More than four would go out only to a client that answers, or is known to read.
const PINGS: usize = 6;
/// What lies in the sockets' buffers takes longer than a keep-alive at this pace.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_is_told_what_it_lost_and_stays() {
    let nats = Nats::start().await;
    let yaml = "streams: { keep_alive: 1s }
api: { subscribe: { buffer: { messages: 64, bytes: 1MiB } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let address = bridge.address().parse().unwrap();
    let socket = socket.connect(address).await.unwrap();
    let request = format!("ws://{}/v1/subscribe/a", bridge.address());
    let opened = client_async(request.into_client_request().unwrap(), socket).await;
    let (mut slow, _) = opened.unwrap();

    let client = nats.client().await;
    let flood = tokio::spawn(async move {
        let payload = format!("\"{}\"", "x".repeat(16 * 1024));
        let mut ticks = tokio::time::interval(Duration::from_millis(4));
        loop {
            ticks.tick().await;
            let sent = client.publish("a", payload.clone().into()).await;
            sent.unwrap();
        }
    });
    let (mut pings, mut dropped) = (0, 0);
    while pings < PINGS || dropped == 0 {
        match within(SOON, "a frame", slow.next()).await {
            Some(Ok(Message::Ping(_))) => {
                pings += 1;
                slow.flush().await.unwrap();
            }
            Some(Ok(Message::Text(text))) => {
                let value: Value = serde_json::from_str(&text).unwrap();
                if value["notice"] == "gap" {
                    assert_eq!(value["reason"], "slow-client");
                    dropped += value["dropped"].as_u64().unwrap();
                }
                tokio::time::sleep(PAUSE).await;
            }
            other => panic!("after {pings} pings and {dropped} dropped: {other:?}"),
        }
    }
    flood.abort();
}
