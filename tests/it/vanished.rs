//! Readers whose host is gone: it closes nothing and acknowledges nothing. And those that are there, and
//! take nothing.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, within};

/// Short, so that two of them are soon over.
const KEEP_ALIVE: &str = "streams: { keep_alive: 250ms }";

/// Opens a stream and reads its head.
async fn open(bridge: &Bridge, path: &str, accept: &str) -> TcpStream {
    let mut socket = TcpStream::connect(bridge.address())
        .await
        .expect("natsway listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    within(SOON, "the head", async {
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            let read = socket.read_buf(&mut head).await.expect("a head");
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&head));
        }
    })
    .await;
    assert!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    socket
}

/// From now on the kernel drops every packet to this socket unseen, as if its host were gone: nothing is
/// acknowledged, nothing reset, nothing closed.
fn vanish(socket: &TcpStream) {
    // One instruction: keep nothing of any packet.
    let mut keep_nothing = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut keep_nothing,
    };
    let size = size_of::<libc::sock_fprog>()
        .try_into()
        .expect("a small number");
    // SAFETY: the program and its one instruction outlive the call, which copies both.
    #[allow(unsafe_code, reason = "std has no socket filters")]
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

async fn is_unsubscribed(nats: &Nats, bridge: &Bridge, subject: &str) {
    eventually(
        SOON,
        &format!("nobody reads {subject:?} any more"),
        async || nats.subscriptions(subject).await == 0,
    )
    .await;
    bridge
        .metric_becomes("natsway_http_streams", &[], |open| open < 1.5)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_gone_is_noticed_by_silence_alone() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, KEEP_ALIVE).await;
    let mut stays = bridge.ndjson("/v1/subscribe/stays").await;
    let mut gone = Vec::new();
    let began = Instant::now();
    for (subject, accept) in [
        ("sse", "text/event-stream"),
        ("lines", "application/x-ndjson"),
    ] {
        let socket = open(&bridge, &format!("/v1/subscribe/{subject}"), accept).await;
        assert_eq!(nats.subscriptions(subject).await, 1);
        vanish(&socket);
        gone.push(socket);
    }
    // Without a limit the kernel tries for a quarter of an hour.
    for subject in ["sse", "lines"] {
        is_unsubscribed(&nats, &bridge, subject).await;
    }
    let two_keep_alives = Duration::from_millis(500);
    assert!(began.elapsed() > two_keep_alives, "not before its time");
    drop(gone);
    let client = nats.client().await;
    client.publish("stays", "1".into()).await.expect("sent");
    round_trip(&client).await;
    assert_eq!(stays.json_line().await.expect("it goes on")["data"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_is_given_up_while_messages_come() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, KEEP_ALIVE).await;
    let mut stays = bridge.ndjson("/v1/subscribe/stays").await;
    let idle = open(&bridge, "/v1/subscribe/a", "text/event-stream").await;
    let client = nats.client().await;
    let large = bytes::Bytes::from("x".repeat(256 * 1024));
    eventually(SOON, "the reader is given up", async || {
        // More than the sockets' buffers hold, however large they have grown.
        client.publish("a", large.clone()).await.expect("sent");
        round_trip(&client).await;
        nats.subscriptions("a").await == 0
    })
    .await;
    is_unsubscribed(&nats, &bridge, "a").await;
    drop(idle);
    client.publish("stays", "1".into()).await.expect("sent");
    round_trip(&client).await;
    assert_eq!(stays.json_line().await.expect("it goes on")["data"], 1);
}
