//! What other publishers may send: natsway serves on, and tells its readers of the gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::client::Opened;
use crate::harness::{Bridge, Nats, SOON, eventually, eventually_some, raw, soak, within};

const READERS: usize = 100;

/// What it is, the subject, and the header block where there is one.
type Frame = (&'static str, &'static [u8], Option<&'static [u8]>);

/// Frames that a client library does not expect of a server.
const POISON: &[Frame] = &[
    (
        "a lone CR in a value",
        b"poison.a",
        Some(b"NATS/1.0\r\nA: b\rc\r\n\r\n"),
    ),
    (
        "a header that is not UTF-8",
        b"poison.b",
        Some(b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n"),
    ),
    (
        "a line without a colon",
        b"poison.c",
        Some(b"NATS/1.0\r\nnothing\r\n\r\n"),
    ),
    (
        "a name that is none",
        b"poison.d",
        Some(b"NATS/1.0\r\nA b: c\r\n\r\n"),
    ),
    (
        "a status that is none",
        b"poison.e",
        Some(b"NATS/1.0 abc\r\n\r\n"),
    ),
    ("a subject that is not UTF-8", b"poison.\xff\xfe", None),
    (
        "a subject that is not UTF-8, with headers",
        b"poison.\xc3\x28",
        Some(b"NATS/1.0\r\nA: b\r\n\r\n"),
    ),
    ("a no-break space", "poison.f\u{a0}g".as_bytes(), None),
    (
        "a no-break space, with headers",
        "poison.h\u{a0}i".as_bytes(),
        Some(b"NATS/1.0\r\nA: b\r\n\r\n"),
    ),
    (
        "an em space, with headers",
        "poison.j\u{2003}k".as_bytes(),
        Some(b"NATS/1.0\r\nA: b\r\n\r\n"),
    ),
    (
        "a vertical tab, with headers",
        b"poison.l\x0bm",
        Some(b"NATS/1.0\r\nA: b\r\n\r\n"),
    ),
    (
        "a form feed, with headers",
        b"poison.n\x0co",
        Some(b"NATS/1.0\r\nA: b\r\n\r\n"),
    ),
];

fn frame(subject: &[u8], headers: Option<&[u8]>) -> Vec<u8> {
    let mut frame = if headers.is_some() { "HPUB " } else { "PUB " }
        .as_bytes()
        .to_vec();
    frame.extend_from_slice(subject);
    let sizes = match headers {
        Some(headers) => format!(" {} {}\r\n", headers.len(), headers.len() + 1),
        None => " 1\r\n".to_owned(),
    };
    frame.extend_from_slice(sizes.as_bytes());
    frame.extend_from_slice(headers.unwrap_or_default());
    frame.extend_from_slice(b"x\r\n");
    frame
}

/// One reader's progress.
#[derive(Default)]
struct Progress {
    seen: AtomicU64,
    gaps: AtomicU64,
}

/// Follows a stream of ascending numbers; where some are missing, a gap must have been told.
async fn follow(mut reader: Opened, progress: Arc<Progress>) {
    let (mut before, mut told) = (0, true);
    loop {
        let event = reader.event().await.expect("the stream goes on");
        match event.event.as_deref() {
            Some("gap") => {
                assert_eq!(event.json()["reason"], "reconnected");
                progress.gaps.fetch_add(1, Ordering::SeqCst);
                told = true;
            }
            None => {
                let number = event.json()["data"].as_u64().expect("a number");
                if number == END {
                    return;
                }
                assert!(number > before, "{number} after {before}");
                assert!(told || number == before + 1, "{before}, then {number}");
                (before, told) = (number, false);
                progress.seen.store(number, Ordering::SeqCst);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Ends the numbers that each reader gets.
const END: u64 = 0;

/// Sends a number to every reader again and again, and poison in between: one connection, so the
/// server has the poison first.
struct Publisher {
    sent: Arc<AtomicU64>,
    poison: mpsc::Sender<Vec<u8>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Publisher {
    fn start(mut raw: raw::Client) -> Self {
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (poison, mut next) = mpsc::channel::<Vec<u8>>(1);
        let (counter, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            while !stopped.load(Ordering::SeqCst) {
                ticks.tick().await;
                if let Ok(frame) = next.try_recv() {
                    raw.send(&frame).await;
                }
                let number = counter.load(Ordering::SeqCst) + 1;
                to_all(&mut raw, number).await;
                counter.store(number, Ordering::SeqCst);
            }
            to_all(&mut raw, END).await;
            raw.publish("poison.end", b"1").await;
            raw.flush().await;
        });
        Self {
            sent,
            poison,
            stop,
            task,
        }
    }

    /// Sends a frame; what is sent from the number that is returned on comes after it.
    async fn send(&self, frame: Vec<u8>) -> u64 {
        self.poison.send(frame).await.expect("it publishes");
        let taken = || self.poison.capacity() == self.poison.max_capacity();
        eventually(SOON, "the frame is sent", async || taken()).await;
        self.sent.load(Ordering::SeqCst) + 2
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the publisher does not panic");
    }
}

const TICK: Duration = Duration::from_millis(50);

async fn to_all(raw: &mut raw::Client, number: u64) {
    let number = number.to_string();
    let frames = (0..READERS).map(|i| format!("PUB calm.{i} {}\r\n{number}\r\n", number.len()));
    raw.send(frames.collect::<String>().as_bytes()).await;
}

const SUBSCRIPTIONS: [(&str, &str); 1] = [("link", "subscriptions")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_from_other_publishers_is_survived() {
    let nats = Nats::start().await;
    let pauses = soak("nats: { reconnect: { max: 300ms } }", "");
    let bridge = Bridge::start(&nats, pauses).await;
    let mut victim = bridge.sse("/v1/subscribe/poison.%3E").await;
    let (mut reading, mut all) = (JoinSet::new(), Vec::new());
    for i in 0..READERS {
        let reader = bridge.sse(&format!("/v1/subscribe/calm.{i}")).await;
        let progress = Arc::<Progress>::default();
        all.push(Arc::clone(&progress));
        reading.spawn(follow(reader, progress));
    }
    let publisher = Publisher::start(nats.raw().await);
    let mut slowest = Duration::ZERO;
    for (what, subject, headers) in POISON {
        let after = publisher.send(frame(subject, *headers)).await;
        let sent = Instant::now();
        eventually_some(SOON, "every reader sees what comes after", async || {
            let ended = reading.try_join_next();
            assert!(ended.is_none(), "a reader ended early: {ended:?}");
            let mut seen = all.iter().map(|of| of.seen.load(Ordering::SeqCst));
            seen.all(|number| number >= after).then_some(())
        })
        .await;
        let took = sent.elapsed();
        assert!(
            took < soak(Duration::from_secs(8), Duration::from_secs(2)),
            "{what}: {took:?}"
        );
        slowest = slowest.max(took);
        let publish = bridge.post("/v1/publish/calm").body("still here");
        publish.send().await.expect(204);
    }
    publisher.finish().await;
    within(SOON, "every reader reads to the end", async {
        while let Some(done) = reading.join_next().await {
            done.expect("a reader loses nothing that it is not told of");
        }
    })
    .await;
    while victim
        .event()
        .await
        .expect("it goes on")
        .data
        .as_deref()
        .is_none_or(|data| !data.contains("poison.end"))
    {}
    let broken = bridge
        .metric("natsway_nats_disconnects_total", &SUBSCRIPTIONS)
        .await;
    eprintln!(
        "{broken} of {} broke the connection; back after {slowest:?}",
        POISON.len()
    );
    assert!(
        broken >= 4.0,
        "poison that harms nobody shows nothing: {broken}"
    );
    for progress in &all {
        let gaps = progress.gaps.load(Ordering::SeqCst);
        assert_eq!(gaps as f64, broken, "each is told of each gap");
    }
    assert!(bridge.exited().is_none());
}
