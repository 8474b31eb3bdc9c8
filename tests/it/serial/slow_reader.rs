//! One reader that stops reading among many: nobody else notices, and it is told what it lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, soak, within};

/// The bytes on the way of a connection that asks the kernel for little room: a reader that stalls is
/// noticed soon.
const NARROW_BYTES: u32 = 4096;
const NARROW_SEGMENT_BYTES: u32 = 536;

/// Reads server-sent events as they come over the socket. A thousand of them have to be read on the
/// machine that also sends them, so it knows no more of the format than it needs.
struct Reader {
    socket: TcpStream,
    unread: Vec<u8>,
    begin: usize,
}

/// What a reader gets.
enum Event {
    Number(u64),
    Gap(u64),
}

impl Reader {
    async fn open(bridge: &Bridge, is_narrow: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if is_narrow {
            socket.set_recv_buffer_size(NARROW_BYTES).unwrap();
            let options = socket2::SockRef::from(&socket);
            options.set_tcp_mss(NARROW_SEGMENT_BYTES).unwrap();
        }
        let address = bridge.address().parse().unwrap();
        let mut socket = socket.connect(address).await.unwrap();
        // An answer of the older version has no chunks between the events.
        let request = "GET /v1/subscribe/ticks HTTP/1.0\r\nHost: localhost\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reader = Self {
            socket,
            unread: Vec::new(),
            begin: 0,
        };
        let head = reader.line().await.to_owned();
        assert!(head.contains(" 200 "), "{head}");
        while !reader.line().await.is_empty() {}
        reader
    }

    /// The next line, without its end.
    async fn line(&mut self) -> &str {
        let mut searched = self.begin;
        loop {
            let end = memchr::memchr(b'\n', &self.unread[searched..]);
            if let Some(end) = end.map(|end| searched + end) {
                let line = &self.unread[self.begin..end];
                self.begin = end + 1;
                return std::str::from_utf8(line).unwrap().trim_end();
            }
            self.unread.drain(..self.begin);
            self.begin = 0;
            searched = self.unread.len();
            let read = within(
                SOON * 2,
                "more of a stream",
                self.socket.read_buf(&mut self.unread),
            );
            assert!(read.await.unwrap() > 0, "the stream goes on");
        }
    }

    async fn event(&mut self) -> Event {
        let mut is_gap = false;
        loop {
            let line = self.line().await;
            match line.split_once(": ") {
                Some(("event", name)) => {
                    assert_eq!(name, "gap");
                    is_gap = true;
                }
                Some(("data", data)) if is_gap => {
                    let gap: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(gap["reason"], "slow-client");
                    return Event::Gap(gap["dropped"].as_u64().expect("a number"));
                }
                Some(("data", data)) => {
                    let number = data.split_once("\"n\":").expect("a tick").1;
                    let end = number.find(',').expect("a filler follows");
                    return Event::Number(number[..end].parse().unwrap());
                }
                _ => {}
            }
        }
    }
}

/// When each tick was sent, in microseconds since the start; and how many were.
struct Ticks {
    begun: Instant,
    sent_us: Vec<AtomicU64>,
    count: AtomicU64,
}

impl Ticks {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            sent_us: (0..most).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
        })
    }

    fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros().try_into().unwrap()
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Publishes so many at a rate, but never gets so far ahead of those that read that they could lose
    /// something.
    async fn publish(
        &self,
        client: &async_nats::Client,
        rate_hz: u64,
        count: u64,
        slowest: impl Fn() -> u64,
    ) {
        let filler = "x".repeat(soak(1000, 40));
        let (begun, first) = (Instant::now(), self.count());
        let last = first + count;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while self.count() < last {
            ticks.tick().await;
            let due = first + (begun.elapsed().as_secs_f64() * rate_hz as f64) as u64;
            for n in self.count()..due.min(last) {
                eventually(SOON, "whoever reads keeps up", async || {
                    n < slowest() + soak(200, 512)
                })
                .await;
                let payload = format!("{{\"n\":{n},\"filler\":\"{filler}\"}}");
                self.sent_us[n as usize].store(self.now_us(), Ordering::SeqCst);
                client.publish("ticks", payload.into()).await.unwrap();
                self.count.store(n + 1, Ordering::SeqCst);
            }
        }
        round_trip(client).await;
    }
}

/// Reads for ever, every number in its order, and notes how long some of them took.
async fn read_all(mut reader: Reader, ticks: Arc<Ticks>, at: Arc<AtomicU64>, took: Arc<Took>) {
    for expected in 0.. {
        match reader.event().await {
            Event::Number(n) => assert_eq!(n, expected),
            Event::Gap(dropped) => panic!("a reader that reads lost {dropped} at {expected}"),
        }
        if expected % 16 == 0 {
            let sent = ticks.sent_us[expected as usize].load(Ordering::SeqCst);
            took.note(ticks.now_us() - sent);
        }
        at.store(expected + 1, Ordering::SeqCst);
    }
}

/// How long deliveries took.
#[derive(Default)]
struct Took(std::sync::Mutex<Vec<u64>>);

impl Took {
    fn note(&self, us: u64) {
        self.0.lock().unwrap().push(us);
    }

    fn median(&self) -> Duration {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap());
        all.sort_unstable();
        Duration::from_micros(all[all.len() / 2])
    }
}

/// Many readers that read.
struct Crowd {
    tasks: Vec<JoinHandle<()>>,
    at: Vec<Arc<AtomicU64>>,
    took: Arc<Took>,
}

impl Crowd {
    async fn open(bridge: &Bridge, readers: usize, ticks: &Arc<Ticks>) -> Self {
        let mut crowd = Self {
            tasks: Vec::new(),
            at: Vec::new(),
            took: Arc::default(),
        };
        for _ in 0..readers {
            let reader = Reader::open(bridge, false).await;
            let at = Arc::<AtomicU64>::default();
            crowd.at.push(Arc::clone(&at));
            let took = Arc::clone(&crowd.took);
            let reading = read_all(reader, Arc::clone(ticks), at, took);
            crowd.tasks.push(tokio::spawn(reading));
        }
        crowd
    }

    /// Publishes for a while; how many messages a second everybody has got.
    async fn rate_of(
        &self,
        ticks: &Ticks,
        client: &async_nats::Client,
        rate_hz: u64,
        lasts: Duration,
    ) -> f64 {
        let (begun, first) = (Instant::now(), ticks.count());
        let count = (lasts.as_secs_f64() * rate_hz as f64) as u64;
        let slowest = || self.at.iter().map(|at| at.load(Ordering::SeqCst)).min();
        ticks
            .publish(client, rate_hz, count, || slowest().unwrap_or(u64::MAX))
            .await;
        self.has_read(ticks.count()).await;
        let rate = (ticks.count() - first) as f64 / begun.elapsed().as_secs_f64();
        // Of a machine at its limit this says more about the machine, so nothing rests on it.
        let median = self.took.median();
        eprintln!("{rate:.0} a second to everybody, half of them within {median:?}");
        rate
    }

    /// Waits until everybody has read everything.
    async fn has_read(&self, count: u64) {
        eventually(SOON, "the readers have read everything", async || {
            let lost = self.tasks.iter().any(JoinHandle::is_finished);
            assert!(!lost, "a reader that reads loses nothing");
            let mut all = self.at.iter().map(|at| at.load(Ordering::SeqCst));
            all.all(|at| at == count)
        })
        .await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_loses_the_oldest_and_nobody_else_loses_anything() {
    let (readers, rate_hz) = (soak(100, 1000), soak(200, 1000));
    let phase = soak(Duration::from_millis(800), Duration::from_secs(8));
    // Time for the socket to fill, for the ring to go round, and more.
    let stalled_phase = soak(Duration::from_secs(4), phase);
    let rounds = soak(1, 3);
    let nats = Nats::start().await;
    let yaml = "
# A client that takes nothing for two keep-alives counts as vanished, and this one is only slow.
streams: { keep_alive: 120s }
api: { subscribe: { buffer: { messages: 400, bytes: 1MiB } } }";
    let bridge = Bridge::start(&nats, soak(yaml, &yaml.replace("400", "1024"))).await;
    let client = nats.client().await;
    let ticks =
        Ticks::new((rate_hz * (phase + stalled_phase).as_secs() * rounds + 10_000) as usize);
    let crowd = Crowd::open(&bridge, readers, &ticks).await;
    let (mut quiet, mut beside) = (0.0_f64, 0.0_f64);
    let before = bridge.rss_bytes();
    for _ in 0..rounds {
        quiet = quiet.max(crowd.rate_of(&ticks, &client, rate_hz, phase).await);

        let mut stalled = Reader::open(&bridge, true).await;
        let first = ticks.count();
        beside = beside.max(crowd.rate_of(&ticks, &client, rate_hz, stalled_phase).await);
        let grown = bridge.rss_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes more");

        let (mut next, mut dropped) = (first, 0);
        while next < ticks.count() {
            match stalled.event().await {
                Event::Number(n) => assert_eq!(n, next, "what is missing was told"),
                Event::Gap(some) => {
                    dropped += some;
                    next += some;
                    continue;
                }
            }
            next += 1;
        }
        assert_eq!(next, ticks.count());
        assert!(dropped > 0, "it was stalled long enough to lose something");
        eprintln!("{dropped} of {} dropped", ticks.count() - first);
    }
    if soak(false, true) {
        assert!(beside > 0.9 * quiet, "{beside} instead of {quiet}");
    }
}
