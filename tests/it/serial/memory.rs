//! What clients hold up, natsway keeps within the limits of `memory`, and a constant for all else: the
//! tasks, the sockets' own buffers, what the allocator has not given back yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::sse::Parser;
use crate::harness::{Bridge, Nats, SOON, eventually, respond, soak, within};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 16 * MIB;
/// All else.
const CONSTANT: u64 = 24 * MIB;
/// Replies that are paid for, in what they were read with, until they are copied out of it.
const COPIED: u64 = LIMIT;

/// What each of a crowd sends, or gets.
const LENGTH: usize = 1_000_000;
/// How many of a crowd there is room for.
const HELD: usize = LIMIT as usize / LENGTH;

/// Clients that want all the memory there is for bodies, of which there is room for a few.
struct Crowd {
    clients: usize,
    route: &'static str,
    nats: Nats,
    bridge: Bridge,
    peak: Peak,
}

impl Crowd {
    /// Before it comes.
    async fn of(route: &'static str, yaml: &str) -> Self {
        let nats = Nats::start().await;
        let yaml = format!("memory: {{ bodies: 16MiB }}\n{yaml}");
        let bridge = Bridge::start(&nats, &yaml).await;
        Self {
            clients: soak(60, 500),
            route,
            peak: Peak::of(&bridge),
            nats,
            bridge,
        }
    }

    /// Waits until all but those that there is room for are refused.
    async fn rest_is_refused(&self) {
        let refusals = [("route", self.route), ("code", "overloaded")];
        self.bridge
            .metric_becomes("natsway_http_problems_total", &refusals, |n| {
                n as usize == self.clients - HELD
            })
            .await;
    }

    /// After so many of it were served.
    async fn were_served(self, served: usize, bound: u64) {
        assert_eq!(served, HELD, "who had room is served");
        self.peak.assert_within(self.route, bound);
        self.bridge
            .metric_becomes("natsway_http_bodies_held_bytes", &[], |n| n < 0.5)
            .await;
    }
}

/// The most memory that natsway has held since a moment.
struct Peak {
    before: u64,
    task: tokio::task::JoinHandle<()>,
    most: Arc<AtomicU64>,
}

impl Peak {
    fn of(bridge: &Bridge) -> Self {
        let before = bridge.rss_bytes();
        let most = Arc::<AtomicU64>::default();
        let (noted, pid) = (Arc::clone(&most), bridge.pid());
        let task = tokio::spawn(async move {
            while let Some(bytes) = rss_bytes(pid) {
                noted.fetch_max(bytes, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { before, task, most }
    }

    fn assert_within(&self, what: &str, bound: u64) {
        let most = self.most.load(Ordering::SeqCst);
        let grown = most.saturating_sub(self.before);
        eprintln!("{what}: {} KiB more", grown / 1024);
        assert!(grown < bound, "{what}: {grown} bytes more");
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rss_bytes(pid: i32) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// A connection for which the kernel holds as little as it can, so that natsway has to hold the rest.
async fn narrow(bridge: &Bridge) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket2::SockRef::from(&socket).set_tcp_mss(536).unwrap();
    let address = bridge.address().parse().unwrap();
    socket.connect(address).await.unwrap()
}

/// Everything up to the end of the connection.
async fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = within(SOON * 2, "the rest", socket.read_to_end(&mut all));
    read.await.unwrap();
    all
}

fn status(answer: &[u8]) -> &str {
    let line = std::str::from_utf8(&answer[..12.min(answer.len())]);
    line.unwrap_or_default().get(9..).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_end_stay_within_their_limit() {
    let crowd = Crowd::of("publish", "http: { body_timeout: 60s }").await;
    let bridge = &crowd.bridge;
    let head = format!(
        "POST /v1/publish/large?timeout=30s HTTP/1.1\r\nHost: localhost\r\n\
         Connection: close\r\nContent-Length: {LENGTH}\r\n\r\n"
    );
    let (finish, _) = tokio::sync::watch::channel(false);
    let mut answers = JoinSet::new();
    for _ in 0..crowd.clients {
        let (head, mut finish) = (head.clone(), finish.subscribe());
        let mut socket = TcpStream::connect(bridge.address()).await.unwrap();
        answers.spawn(async move {
            socket.write_all(head.as_bytes()).await.unwrap();
            // Whoever is refused is told before it has sent all of it.
            let sent = socket.write_all(&vec![b'x'; LENGTH - 1]).await;
            let mut first = [0; 1];
            tokio::select! {
                read = socket.peek(&mut first) => drop(read),
                _ = finish.wait_for(|finish| *finish) => {}
            }
            if sent.is_ok() {
                let _refused = socket.write_all(b"x").await;
            }
            let mut answer = Vec::new();
            let _reset = socket.read_to_end(&mut answer).await;
            status(&answer).to_owned()
        });
    }
    crowd.rest_is_refused().await;
    let drawn = bridge.metric("natsway_http_bodies_held_bytes", &[]).await;
    assert!(drawn <= LIMIT as f64, "{drawn}");
    finish.send_replace(true);
    let all = answers.join_all().await;
    let published = all.iter().filter(|status| *status == "204").count();
    crowd.were_served(published, LIMIT + CONSTANT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_reads_stay_within_their_limit() {
    let crowd = Crowd::of("request", "streams: { keep_alive: 120s }").await;
    respond(&crowd.nats, "much", vec![b'x'; LENGTH]).await;
    let mut sockets = Vec::new();
    for _ in 0..crowd.clients {
        let mut socket = narrow(&crowd.bridge).await;
        let head = "POST /v1/request/much?timeout=30s HTTP/1.1\r\nHost: localhost\r\n\
                    Connection: close\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    crowd.rest_is_refused().await;
    let mut answers = JoinSet::new();
    for socket in sockets {
        answers.spawn(rest(socket));
    }
    let mut served = 0;
    for answer in answers.join_all().await {
        if status(&answer) == "200" {
            served += 1;
            assert!(answer.ends_with(&[b'x'; LENGTH]), "{}", answer.len());
        } else {
            assert_eq!(status(&answer), "503");
        }
    }
    crowd.were_served(served, LIMIT + CONSTANT + COPIED).await;
}

/// What a stream of numbered messages has shown: how many came, and how many were told to be lost.
async fn seen_and_dropped(mut socket: TcpStream, count: u64, at: Arc<AtomicU64>) -> (u64, u64) {
    let (mut parser, mut seen, mut dropped) = (Parser::default(), 0, 0);
    let mut bytes = vec![0; 64 * 1024];
    let mut head = true;
    while seen + dropped < count {
        let read = within(SOON * 2, "more of a stream", socket.read(&mut bytes));
        let read = read.await.unwrap();
        let mut new = &bytes[..read];
        assert!(!new.is_empty(), "the stream goes on");
        if std::mem::take(&mut head) {
            // The head is there with the first bytes: natsway sends it before any message.
            assert_eq!(status(new), "200");
            let end = new.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            new = &new[end + 4..];
        }
        parser.feed(new);
        while let Some(block) = parser.next() {
            match block.event.as_deref() {
                None if block.data.is_some() => {
                    let number = block.json()["data"]["n"].as_u64().expect("a number");
                    assert_eq!(number, seen + dropped, "what is missing was told");
                    seen += 1;
                }
                Some("gap") => dropped += block.json()["dropped"].as_u64().expect("a number"),
                None => {}
                other => panic!("{other:?}"),
            }
            at.store(seen + dropped, Ordering::SeqCst);
        }
    }
    (seen, dropped)
}

/// Subscribes over a narrow connection. An answer of HTTP's older version has no chunks in it.
async fn subscribed(bridge: &Bridge, subject: &str) -> TcpStream {
    let mut socket = narrow(bridge).await;
    let head = format!("GET /v1/subscribe/{subject} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    within(SOON, "a head", socket.readable()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_stay_within_their_limit_and_disturb_nobody() {
    const PAYLOAD: usize = 16 * 1024;
    let (subjects, messages) = (40, soak(128, 2000));
    let nats = Nats::start().await;
    let yaml = "
streams: { keep_alive: 120s }
memory: { streams: 16MiB }
api: { subscribe: { buffer: { messages: 10000, bytes: 8MiB } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut stalled = Vec::new();
    for i in 0..subjects {
        stalled.push(subscribed(&bridge, &format!("bulk.{i}")).await);
    }
    let reader = subscribed(&bridge, "calm").await;
    let peak = Peak::of(&bridge);
    let total = subjects * messages;
    let at = Arc::<AtomicU64>::default();
    let reading = tokio::spawn(seen_and_dropped(reader, total, Arc::clone(&at)));
    let client = nats.client().await;
    let filler = "x".repeat(PAYLOAD);
    for n in 0..messages {
        for i in 0..subjects {
            let payload = format!("{{\"n\":{n},\"x\":\"{filler}\"}}");
            client
                .publish(format!("bulk.{i}"), payload.into())
                .await
                .unwrap();
            let number = n * subjects + i;
            client
                .publish("calm", format!("{{\"n\":{number}}}").into())
                .await
                .unwrap();
        }
        eventually(SOON, "the one that reads has read it all", async || {
            at.load(Ordering::SeqCst) == (n + 1) * subjects
        })
        .await;
    }
    let (seen, dropped) = within(SOON * 2, "the other reads on", reading)
        .await
        .unwrap();
    assert_eq!((seen, dropped), (total, 0), "nobody else loses anything");
    peak.assert_within("streams", LIMIT + CONSTANT);
    let mut reading = JoinSet::new();
    for socket in stalled {
        reading.spawn(seen_and_dropped(socket, messages, Arc::default()));
    }
    let mut lost = 0;
    for (seen, dropped) in reading.join_all().await {
        assert_eq!(seen + dropped, messages);
        lost += dropped;
    }
    assert!(lost > 0, "more was sent than there was room for");
    eventually(SOON, "all is given back", async || {
        bridge.metric("natsway_stream_held_bytes", &[]).await < 0.5
    })
    .await;
}
