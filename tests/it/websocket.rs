//! The stream over a WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::ws::Ws;
use crate::harness::{Bridge, Nats, SOON, eventually, within};

async fn publish(nats: &Nats, payloads: &[&[u8]]) {
    let client = nats.client().await;
    for payload in payloads {
        let sent = client.publish("a", payload.to_vec().into()).await;
        sent.expect("sent");
    }
    client.flush().await.expect("the server reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_frames_are_text_where_they_can_be() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = bridge.ws("/v1/subscribe/a?format=raw&max=3").await;
    publish(&nats, &[b"one\r\n", b"\xff\x00", b""]).await;
    assert_eq!(ws.next_frame().await, Some(Message::text("one\r\n")));
    assert_eq!(
        ws.next_frame().await,
        Some(Message::binary(&b"\xff\x00"[..]))
    );
    assert_eq!(ws.next_frame().await, Some(Message::text("")));
    assert_eq!(ws.closed().await, Some((1000, "max".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_subscriber_sends_is_ignored_within_limits() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = bridge.ws("/v1/subscribe/a").await;
    ws.send(&json!({"op": "publish", "subject": "a", "data": 1}))
        .await;
    ws.send_frame(Message::binary(vec![0; 1000])).await;
    publish(&nats, &[b"1"]).await;
    assert_eq!(ws.next().await["data"], 1);
    ws.send_frame(Message::binary(vec![0; 5000])).await;
    assert_eq!(ws.closed().await.map(|(code, _)| code), Some(1009));
    eventually(SOON, "it is unsubscribed", async || {
        nats.subscriptions("a").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_is_answered_and_unsubscribed() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = bridge.ws("/v1/subscribe/a").await;
    ws.send_frame(Message::Close(None)).await;
    assert_eq!(ws.closed().await, None);
    eventually(SOON, "it is unsubscribed", async || {
        nats.subscriptions("a").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_pings_stays_and_one_that_does_not_goes() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 2s }").await;
    let vanished = Ws::connect(bridge.address(), "/v1/subscribe/a", &[]).await;
    // The socket stays open and nobody reads it.
    let vanished = vanished.expect("it opens").into_socket();
    eventually(
        Duration::from_secs(30),
        "the vanished client is noticed",
        async || nats.subscriptions("a").await == 0,
    )
    .await;
    drop(vanished);

    let request = format!("ws://{}/v1/subscribe/a", bridge.address());
    let request = request.into_client_request().expect("a request");
    let socket = tokio::net::TcpStream::connect(bridge.address()).await;
    let socket = socket.expect("natsway listens");
    let opened = tokio_tungstenite::client_async(request, socket).await;
    let (mut stream, _) = opened.expect("it opens");
    for _ in 0..3 {
        let frame = within(SOON, "a ping", stream.next()).await;
        assert!(matches!(frame, Some(Ok(Message::Ping(_)))), "{frame:?}");
        stream.flush().await.expect("the pong goes out");
    }
    publish(&nats, &[b"1"]).await;
    loop {
        match within(SOON, "the message", stream.next()).await {
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(Message::Text(text))) => break assert!(text.contains("\"data\":1")),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_given_up_can_still_read_why() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 500ms }").await;
    let mut silent = bridge.ws("/v1/subscribe/a").await;
    let mut raw = bridge.ws("/v1/subscribe/a?format=raw").await;
    publish(&nats, &[b"1"]).await;
    eventually(SOON, "both are given up", async || {
        nats.subscriptions("a").await == 0
    })
    .await;
    assert_eq!(silent.next().await["data"], 1);
    let end = json!({"notice": "end", "reason": "slow-client"});
    assert_eq!(silent.next().await, end);
    assert_eq!(raw.next_frame().await, Some(Message::text("1")));
    for given_up in [&mut silent, &mut raw] {
        let closed = given_up.closed().await;
        assert_eq!(closed, Some((1013, "slow-client".to_owned())));
    }
    bridge
        .metric_becomes(
            "natsway_stream_ends_total",
            &[("reason", "slow-client")],
            |ends| ends > 1.5,
        )
        .await;
}
