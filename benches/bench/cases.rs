//! What is measured, and against what.

mod layers;
mod scaling;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_load::{self, Found};
use crate::nats_load;
use crate::process::Process;
use crate::report::Report;

const CONNECTIONS: usize = 64;
const PAYLOAD_BYTES: usize = 128;

struct Bench {
    nats: Process,
    natsway: Process,
    bare: Process,
    naive: Process,
    _echo: Process,
    span: Duration,
    report: Report,
}

/// Runs all cases whose name contains `filter`.
pub(crate) async fn run(filter: Option<&str>, rounds: u64, span: Duration) -> Report {
    let nats = Process::nats();
    let natsway = Process::natsway(&nats.address, "");
    create_stream(&nats.address).await;
    let echo = Process::role(&["serve-echo", &nats.address]);
    let (bare, naive) = (
        Process::role(&["serve-bare"]),
        Process::role(&["serve-naive", &nats.address]),
    );
    let mut bench = Bench {
        nats,
        natsway,
        bare,
        naive,
        _echo: echo,
        span,
        report: Report::default(),
    };
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    for _ in 0..rounds {
        if wanted("publish") {
            bench.publish().await;
        }
        if wanted("stream") {
            bench.stream().await;
        }
        if wanted("request") {
            bench.request().await;
        }
        if wanted("batch") {
            bench.batch().await;
        }
        if wanted("sse") {
            bench.sse().await;
        }
        if wanted("start") {
            bench.start().await;
        }
    }
    if wanted("idle") {
        bench.idle().await;
    }
    if wanted("layers") {
        layers::measure(&mut bench.report, rounds).await;
    }
    if wanted("scaling") {
        let panels = bench.scaling().await;
        bench.report.picture = Some(crate::plot::svg(&panels));
    }
    if wanted("traces") {
        crate::traces::run(&bench.nats, span, &mut bench.report).await;
    }
    bench.targets();
    bench.report
}

async fn create_stream(nats: &str) {
    let client = async_nats::connect(nats).await.unwrap();
    let config = r#"{"name":"BENCH","subjects":["bench.stream"],"storage":"memory","max_msgs":100000,"discard":"old"}"#;
    client
        .request("$JS.API.STREAM.CREATE.BENCH", config.into())
        .await
        .unwrap();
}

impl Bench {
    /// Runs `load` and notes rate, latency and the CPU of `server` and of nats-server an answer.
    async fn http(
        &mut self,
        name: &str,
        address: &str,
        pid: u32,
        load: impl Future<Output = Found>,
    ) {
        let (server, nats) = (crate::process::cpu_us(pid), self.nats.cpu_us());
        let found = load.await;
        assert_eq!(
            found.failed, 0,
            "{name} at {address}: every answer is a 2xx"
        );
        let per = |us: u64| us as f64 / found.answers as f64;
        let line = [
            ("per_s", found.rate_hz()),
            ("p50_us", found.percentile_us(50)),
            ("p99_us", found.percentile_us(99)),
            ("cpu_us", per(crate::process::cpu_us(pid) - server)),
            ("nats_cpu_us", per(self.nats.cpu_us() - nats)),
        ];
        self.report.add(name, &line);
    }

    async fn publish(&mut self) {
        let body = [b'x'; PAYLOAD_BYTES];
        let (bare, naive, natsway) = (
            self.bare.address.clone(),
            self.naive.address.clone(),
            self.natsway.address.clone(),
        );
        let (bare_pid, naive_pid, pid) = (self.bare.pid(), self.naive.pid(), self.natsway.pid());
        let (span, path) = (self.span, "/v1/publish/bench.publish");
        for (name, address, pid, path) in [
            ("bare axum", &bare, bare_pid, path),
            ("naive publish", &naive, naive_pid, path),
            (
                "naive publish and flush",
                &naive,
                naive_pid,
                "/flush/bench.publish",
            ),
            (
                "publish none",
                &natsway,
                pid,
                &format!("{path}?confirm=none"),
            ),
            ("publish server", &natsway, pid, path),
        ] {
            let request = http_load::post(address, path, "", &body);
            self.http(
                name,
                address,
                pid,
                http_load::closed_loop(address, &request, CONNECTIONS, span),
            )
            .await;
        }
        let half = |of: &str| self.report.median(of, "per_s").unwrap() / 2.0;
        let (half, own_half) = (half("bare axum"), half("publish server"));
        for (name, address, pid, path, rate_hz) in [
            ("bare axum, half rate", &bare, bare_pid, path, half),
            (
                "naive publish and flush, half rate",
                &naive,
                naive_pid,
                "/flush/bench.publish",
                half,
            ),
            ("publish server, half rate", &natsway, pid, path, half),
            (
                "publish server, half its own rate",
                &natsway,
                pid,
                path,
                own_half,
            ),
        ] {
            let request = http_load::post(address, path, "", &body);
            let load = http_load::open_loop(address, &request, CONNECTIONS, span, rate_hz);
            self.http(name, address, pid, load).await;
        }
    }

    async fn stream(&mut self) {
        let found = nats_load::requests(&self.nats.address, "bench.stream", CONNECTIONS, self.span);
        self.report.add(
            "async-nats publish with ack",
            &[
                ("per_s", found.rate_hz()),
                ("p50_us", found.percentile_us(50)),
            ],
        );
        let (address, pid) = (self.natsway.address.clone(), self.natsway.pid());
        let request = http_load::post(
            &address,
            "/v1/publish/bench.stream?confirm=stream",
            "",
            &[b'x'; PAYLOAD_BYTES],
        );
        let load = http_load::closed_loop(&address, &request, CONNECTIONS, self.span);
        self.http("publish stream", &address, pid, load).await;
    }

    async fn request(&mut self) {
        let (bare, naive, address) = (
            self.bare.address.clone(),
            self.naive.address.clone(),
            self.natsway.address.clone(),
        );
        let (pid, naive_pid) = (self.natsway.pid(), self.naive.pid());
        let body = [b'x'; PAYLOAD_BYTES];
        let request = http_load::post(&address, "/v1/request/bench.echo", "", &body);
        let simple = http_load::post(&naive, "/v1/request/bench.echo", "", &body);
        let plain = http_load::post(&bare, "/v1/publish/x", "", &body);
        for (ours, theirs, between, in_flight) in [
            (
                "request",
                "async-nats request",
                "naive request",
                CONNECTIONS,
            ),
            (
                "request, one connection",
                "async-nats request, one in flight",
                "naive request, one connection",
                1,
            ),
        ] {
            let found = nats_load::requests(&self.nats.address, "bench.echo", in_flight, self.span);
            self.report.add(
                theirs,
                &[
                    ("per_s", found.rate_hz()),
                    ("p50_us", found.percentile_us(50)),
                ],
            );
            let load = http_load::closed_loop(&naive, &simple, in_flight, self.span);
            self.http(between, &naive, naive_pid, load).await;
            let load = http_load::closed_loop(&address, &request, in_flight, self.span);
            self.http(ours, &address, pid, load).await;
        }
        let load = http_load::closed_loop(&bare, &plain, 1, self.span);
        self.http("bare axum, one connection", &bare, self.bare.pid(), load)
            .await;
    }

    async fn batch(&mut self) {
        const LINES: u64 = 2_000_000;
        let (own, nats) = (
            crate::process::cpu_us(std::process::id()),
            self.nats.cpu_us(),
        );
        let found = nats_load::flat_out(&self.nats.address, LINES, PAYLOAD_BYTES);
        let own = (crate::process::cpu_us(std::process::id()) - own) as f64;
        let nats = (self.nats.cpu_us() - nats) as f64;
        let line = [
            ("per_s", found.rate_hz()),
            ("per_cpu_s", LINES as f64 / own * 1e6),
            ("nats_cpu_us", nats / LINES as f64),
        ];
        self.report.add("async-nats publish flat out", &line);
        let mut line = vec![b'x'; PAYLOAD_BYTES];
        line.push(b'\n');
        self.send_batch(
            "batch lines",
            "/v1/publish/bench.batch?split=lines",
            "text/plain",
            &line,
            LINES,
        )
        .await;
        let filler = "x".repeat(PAYLOAD_BYTES - 20);
        let line =
            format!("{{\"subject\":\"bench.batch\",\"data\":{{\"n\":1,\"text\":\"{filler}\"}}}}\n");
        self.send_batch(
            "batch NDJSON",
            "/v1/publish",
            "application/x-ndjson",
            line.as_bytes(),
            LINES,
        )
        .await;
    }

    async fn send_batch(&mut self, name: &str, path: &str, kind: &str, line: &[u8], lines: u64) {
        let per_chunk = 64 * 1024 / line.len();
        let chunk = line.repeat(per_chunk);
        let chunks = lines / per_chunk as u64;
        let length = chunks * chunk.len() as u64;
        let address = self.natsway.address.clone();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let (cpu, nats, start) = (self.natsway.cpu_us(), self.nats.cpu_us(), Instant::now());
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..chunks {
            stream.write_all(&chunk).await.unwrap();
        }
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(
            answer[..read].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..read])
        );
        let sent = (chunks * per_chunk as u64) as f64;
        let cpu = (self.natsway.cpu_us() - cpu) as f64;
        let line = [
            ("per_s", sent / start.elapsed().as_secs_f64()),
            ("per_cpu_s", sent / cpu * 1e6),
            ("nats_cpu_us", (self.nats.cpu_us() - nats) as f64 / sent),
            ("rss_mib", self.natsway.rss_bytes() as f64 / 1_048_576.0),
        ];
        self.report.add(name, &line);
    }

    async fn sse(&mut self) {
        const READERS: usize = 1000;
        for (ours, theirs, rate_hz) in [
            ("sse, 200 a second", "naive sse, 200 a second", Some(200)),
            ("sse, flat out", "naive sse, flat out", None),
        ] {
            let (natsway, naive) = (self.natsway.address.clone(), self.naive.address.clone());
            let (natsway_pid, naive_pid) = (self.natsway.pid(), self.naive.pid());
            self.deliver(theirs, &naive, naive_pid, READERS, rate_hz)
                .await;
            self.deliver(ours, &natsway, natsway_pid, READERS, rate_hz)
                .await;
        }
        let (natsway, pid) = (self.natsway.address.clone(), self.natsway.pid());
        self.deliver("sse, one reader, 200 a second", &natsway, pid, 1, Some(200))
            .await;
    }

    /// Counts what `readers` get while messages are published, and what it costs both servers.
    async fn deliver(
        &mut self,
        name: &str,
        address: &str,
        pid: u32,
        readers: usize,
        rate_hz: Option<u64>,
    ) {
        let mut streams = Vec::new();
        for _ in 0..readers {
            streams.push(open_sse(address, "bench.sse").await);
        }
        let (cpu, nats) = (crate::process::cpu_us(pid), self.nats.cpu_us());
        let (url, span) = (self.nats.address.clone(), self.span);
        let publishing = tokio::task::spawn_blocking(move || {
            nats_load::publish_at(&url, "bench.sse", rate_hz, span)
        });
        let mut reading = tokio::task::JoinSet::new();
        for stream in streams {
            reading.spawn(count_events(stream));
        }
        let published = publishing.await.unwrap();
        let mut events = 0;
        while let Some(done) = reading.join_next().await {
            events += done.unwrap();
        }
        let (cpu, nats) = (
            (crate::process::cpu_us(pid) - cpu) as f64,
            (self.nats.cpu_us() - nats) as f64,
        );
        let line = [
            ("per_s", events as f64 / self.span.as_secs_f64()),
            ("per_cpu_s", events as f64 / (cpu + nats).max(1.0) * 1e6),
            ("nats_cpu_us_a_message", nats / published as f64),
        ];
        self.report.add(name, &line);
    }

    async fn start(&mut self) {
        // The servers are still busy with the end of the case before.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let started = Process::natsway(&self.nats.address, "");
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let line = [
            ("ready_ms", took.as_secs_f64() * 1e3),
            ("idle_rss_mib", started.rss_bytes() as f64 / 1_048_576.0),
        ];
        self.report.add("start", &line);
    }

    async fn idle(&mut self) {
        const READERS: usize = 10_000;
        let natsway = Process::natsway(&self.nats.address, "");
        let before = natsway.rss_bytes();
        let mut streams = Vec::new();
        for _ in 0..READERS {
            streams.push(open_sse(&natsway.address, "bench.idle").await);
        }
        let each = (natsway.rss_bytes() - before) as f64 / READERS as f64 / 1024.0;
        self.report.add("idle sse readers", &[("kib_each", each)]);
    }

    fn targets(&mut self) {
        let bare = ("bare axum", "per_s");
        let ratios = [
            (
                "publish none / bare axum, rate",
                self.report.ratio(("publish none", "per_s"), bare),
                0.8,
                true,
            ),
            (
                "publish server / bare axum, rate",
                self.report.ratio(("publish server", "per_s"), bare),
                0.7,
                true,
            ),
            (
                "publish server / bare axum, CPU",
                self.report
                    .ratio(("publish server", "cpu_us"), ("bare axum", "cpu_us")),
                1.5,
                false,
            ),
            (
                "publish server / bare axum, p99 at half rate",
                self.report.ratio(
                    ("publish server, half rate", "p99_us"),
                    ("bare axum, half rate", "p99_us"),
                ),
                1.5,
                false,
            ),
            (
                "publish stream / async-nats with acks",
                self.report.ratio(
                    ("publish stream", "per_s"),
                    ("async-nats publish with ack", "per_s"),
                ),
                0.45,
                true,
            ),
            (
                "request / async-nats request",
                self.report
                    .ratio(("request", "per_s"), ("async-nats request", "per_s")),
                0.5,
                true,
            ),
            (
                "request p50 / (bare p50 + NATS p50), one connection",
                self.request_latency(),
                1.2,
                false,
            ),
            (
                "batch lines / async-nats flat out",
                self.report.ratio(
                    ("batch lines", "per_s"),
                    ("async-nats publish flat out", "per_s"),
                ),
                0.6,
                true,
            ),
            (
                "batch NDJSON, messages a CPU second",
                self.report.median("batch NDJSON", "per_cpu_s"),
                500_000.0,
                true,
            ),
            (
                "sse / naive, deliveries a CPU second, 200 a second",
                self.sse_ratio("200 a second"),
                2.0,
                true,
            ),
            (
                "sse / naive, deliveries a CPU second, flat out",
                self.sse_ratio("flat out"),
                3.0,
                true,
            ),
            (
                "KiB an idle SSE reader",
                self.report.median("idle sse readers", "kib_each"),
                16.0,
                false,
            ),
            (
                "the layers together, ns",
                self.report.median("layers together", "ns"),
                800.0,
                false,
            ),
            (
                "the dearest layer, ns",
                self.report.highest("layer ", "ns"),
                100.0,
                false,
            ),
            (
                "start to ready, ms",
                self.report.median("start", "ready_ms"),
                60.0,
                false,
            ),
            (
                "idle RSS, MiB",
                self.report.median("start", "idle_rss_mib"),
                12.0,
                false,
            ),
        ];
        for (what, value, wanted, at_least) in ratios {
            self.report.target(what, value, wanted, at_least);
        }
        crate::traces::targets(&mut self.report);
    }

    fn request_latency(&self) -> Option<f64> {
        let ours = self.report.median("request, one connection", "p50_us")?;
        let bare = self.report.median("bare axum, one connection", "p50_us")?;
        Some(
            ours / (bare
                + self
                    .report
                    .median("async-nats request, one in flight", "p50_us")?),
        )
    }

    fn sse_ratio(&self, how: &str) -> Option<f64> {
        let (ours, theirs) = (format!("sse, {how}"), format!("naive sse, {how}"));
        self.report
            .ratio((&ours, "per_cpu_s"), (&theirs, "per_cpu_s"))
    }
}

async fn open_sse(address: &str, subject: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/subscribe/{subject} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    assert!(
        head[..read].starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head[..read])
    );
    stream
}

/// Counts events until nothing has come for a while.
async fn count_events(mut stream: TcpStream) -> u64 {
    const QUIET: Duration = Duration::from_secs(1);
    let mut buffer = vec![0; 64 * 1024];
    let mut events = 0;
    while let Ok(Ok(read)) = tokio::time::timeout(QUIET, stream.read(&mut buffer)).await {
        if read == 0 {
            break;
        }
        events += memchr::memmem::find_iter(&buffer[..read], b"data: ").count() as u64;
    }
    events
}
