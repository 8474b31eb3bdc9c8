//! HTTP/1.1 load over keep-alive connections, as cheap as it can be: fixed requests, and of an
//! answer no more is read than is needed to find its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What a load found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) answers: u64,
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
    /// Sorted, in microseconds.
    pub(crate) latencies_us: Vec<u32>,
}

impl Found {
    pub(crate) fn rate_hz(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn percentile_us(&self, percent: usize) -> f64 {
        let index = (self.latencies_us.len() * percent / 100)
            .min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us
            .get(index)
            .copied()
            .unwrap_or_default()
            .into()
    }
}

/// A request as bytes.
pub(crate) fn post(host: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// Every connection asks again as soon as it has its answer.
pub(crate) async fn closed_loop(
    host: &str,
    request: &[u8],
    connections: usize,
    span: Duration,
) -> Found {
    run(host, &[request.to_vec()], connections, span, None).await
}

/// As [`closed_loop`], each connection with all the requests in turn, each from another one on.
pub(crate) async fn many(
    host: &str,
    requests: &[Vec<u8>],
    connections: usize,
    span: Duration,
) -> Found {
    run(host, requests, connections, span, None).await
}

/// `rate_hz` requests a second over all connections, whether answers come or not; latencies count
/// from when a request was due.
pub(crate) async fn open_loop(
    host: &str,
    request: &[u8],
    connections: usize,
    span: Duration,
    rate_hz: f64,
) -> Found {
    run(
        host,
        &[request.to_vec()],
        connections,
        span,
        Some(Duration::from_secs_f64(connections as f64 / rate_hz)),
    )
    .await
}

async fn run(
    host: &str,
    requests: &[Vec<u8>],
    connections: usize,
    span: Duration,
    every: Option<Duration>,
) -> Found {
    let mut opened = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        opened.push(stream);
    }
    let requests: Arc<[Vec<u8>]> = requests.into();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, stream) in opened.into_iter().enumerate() {
        let first = every.map(|every| every.mul_f64(index as f64 / connections as f64));
        let from = index * requests.len() / connections;
        tasks.spawn(connection(
            stream,
            (Arc::clone(&requests), from),
            start,
            span,
            every.zip(first),
        ));
    }
    let mut found = Found::default();
    while let Some(done) = tasks.join_next().await {
        let one = done.unwrap();
        found.answers += one.answers;
        found.failed += one.failed;
        found.latencies_us.extend(one.latencies_us);
    }
    found.elapsed = start.elapsed();
    found.latencies_us.sort_unstable();
    found
}

async fn connection(
    mut stream: TcpStream,
    (requests, from): (Arc<[Vec<u8>]>, usize),
    start: Instant,
    span: Duration,
    pace: Option<(Duration, Duration)>,
) -> Found {
    let mut found = Found::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut number = 0_u32;
    while start.elapsed() < span {
        let due = match pace {
            Some((every, first)) => {
                let due = start + first + every * number;
                tokio::time::sleep_until(due.into()).await;
                due
            }
            None => Instant::now(),
        };
        let request = &requests[(from + number as usize) % requests.len()];
        number += 1;
        stream.write_all(request).await.unwrap();
        let status = answer(&mut stream, &mut buffer).await;
        found
            .latencies_us
            .push(due.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
        found.answers += 1;
        found.failed += u64::from(!(200..300).contains(&status));
    }
    found
}

/// Reads one answer; its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u16 {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "the server closed a keep-alive connection");
        filled += read;
        let Some(head) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n") else {
            continue;
        };
        let total = head + 4 + content_length(&buffer[..head]);
        if filled >= total {
            assert_eq!(filled, total, "one answer a request");
            return status(&buffer[..head]);
        }
    }
}

fn status(head: &[u8]) -> u16 {
    std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap()
}

fn content_length(head: &[u8]) -> usize {
    let Some(at) = memchr::memmem::find(head, b"content-length: ") else {
        return 0;
    };
    let digits = head[at + 16..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}
