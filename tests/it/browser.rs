//! Real pages in a real browser. `make test-browser` runs these: they need Chromium and Node.js.

use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::faults::Proxy;
use crate::harness::process::{Output, Process};
use crate::harness::{Bridge, Nats, SOON, eventually_some};
use crate::readme::readme;
use crate::readme::transcript::blocks;

const COUNT: usize = 1000;
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// Serves the page: an origin of its own.
struct Site {
    origin: String,
    page: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Site {
    async fn open() -> Self {
        let page = std::fs::read_to_string(format!("{FOLDER}/page.html")).expect("the page");
        let page = Arc::new(Mutex::new(page));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shown = Arc::clone(&page);
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let page = shown.lock().expect("no holder panics").clone();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
                let answer = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            origin: format!("http://{address}"),
            page,
            task,
        }
    }

    /// Another page in place of `page.html`.
    fn show(&self, page: String) {
        *self.page.lock().expect("no holder panics") = page;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A page that is open in a browser.
struct Page {
    process: Process,
    _profile: TempDir,
}

impl Page {
    fn open(site: &Site, how: &str, url: &str, subject: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let query = [("how", how), ("url", url), ("subject", subject)];
        let count = COUNT.to_string();
        let query = query.iter().copied().chain([("count", count.as_str())]);
        let page = reqwest::Url::parse_with_params(&site.origin, query).expect("a URL");
        let installed = |name: &str| {
            std::env::var_os(name)
                .unwrap_or_else(|| panic!("{name} is not set: run `make test-browser`"))
        };
        let mut command = Command::new("node");
        command
            .env("PLAYWRIGHT_CORE", installed("PLAYWRIGHT_CORE"))
            .arg(format!("{FOLDER}/drive.cjs"))
            .arg(installed("CHROMIUM_BIN"))
            .arg(page.as_str())
            .arg(profile.path());
        Self {
            process: Process::start("the browser", command, Output::default()),
            _profile: profile,
        }
    }

    /// The reports with this member so far.
    fn all(&self, member: &str) -> Vec<Value> {
        let lines = self.process.output.lines();
        let reports = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        reports
            .filter(|report| report.get(member).is_some())
            .collect()
    }

    /// Waits for a report with this member.
    async fn reports(&self, member: &str) -> Value {
        let what = format!("the page reports {member:?}");
        eventually_some(SOON * 4, &what, async || {
            let exited = self.process.exited();
            let found = self.all(member).into_iter().next();
            assert!(
                found.is_some() || exited.is_none(),
                "the browser ended: {exited:?}"
            );
            found
        })
        .await
    }
}

async fn start(site: &Site) -> (Nats, Bridge) {
    let nats = Nats::start().await;
    let yaml = format!("cors: {{ origins: [\"{}\"] }}", site.origin);
    let bridge = Bridge::start(&nats, &yaml).await;
    (nats, bridge)
}

/// Publishes the numbers from 0 through natsway, one line of a batch each.
async fn publish_numbers(bridge: &Bridge) {
    let lines: String = (0..COUNT).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let published = bridge
        .post("/v1/publish/ticks.all?split=lines")
        .body(lines)
        .send()
        .await;
    assert_eq!(published.expect(200).json()["published"], COUNT);
}

fn assert_in_order(report: &Value) {
    let expected: Vec<Value> = (0..COUNT).map(|n| json!({"n": n})).collect();
    assert_eq!(report["seen"], Value::Array(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_source_receives_a_thousand_messages_in_order() {
    let site = Site::open().await;
    let (_nats, bridge) = start(&site).await;
    let url = bridge.url(&format!("/v1/subscribe/ticks.%3E?max={COUNT}"));
    let page = Page::open(&site, "eventsource", &url, "");
    page.reports("open").await;
    publish_numbers(&bridge).await;
    let report = page.reports("done").await;
    assert_in_order(&report);
    assert_eq!(report["reason"], "max");
    assert_eq!(
        report["readyState"], 2,
        "close() on `end` ends the reconnecting"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_source_that_is_cut_off_sees_each_stored_message_once() {
    const CUTS: usize = 5;
    let site = Site::open().await;
    let (nats, bridge) = start(&site).await;
    nats.stream("TICKS", &["ticks.>"], json!({})).await;
    let proxy = Proxy::to(bridge.address()).await;
    let url = format!(
        "http://{}/v1/streams/TICKS/subscribe?from=all",
        proxy.host_port()
    );
    let page = Page::open(&site, "resuming", &url, "");
    for cut in 0..=CUTS {
        let what = format!("connected after {cut} cuts");
        eventually_some(SOON * 4, &what, async || {
            (page.all("open").len() > cut).then_some(())
        })
        .await;
        let share = cut * COUNT / (CUTS + 1)..(cut + 1) * COUNT / (CUTS + 1);
        let numbers = share.map(|n| format!("{{\"n\":{n}}}"));
        nats.store_many("ticks.all", numbers).await;
        if cut < CUTS {
            let lost = page.all("lost").len();
            proxy.cut();
            eventually_some(SOON, "the page has lost its connection", async || {
                (page.all("lost").len() > lost).then_some(())
            })
            .await;
            proxy.heal();
        }
    }
    let report = page.reports("done").await;
    assert_in_order(&report);
    assert!(page.all("gap").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_socket_receives_a_thousand_messages_in_order() {
    let site = Site::open().await;
    let (_nats, bridge) = start(&site).await;
    let path = format!("/v1/subscribe/ticks.%3E?max={COUNT}");
    let url = format!("ws://{}{path}", bridge.address());
    let page = Page::open(&site, "websocket", &url, "");
    page.reports("open").await;
    publish_numbers(&bridge).await;
    let report = page.reports("done").await;
    assert_in_order(&report);
    assert_eq!(report["reason"], "max");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multiplexed_web_socket_receives_a_thousand_messages_in_order() {
    let site = Site::open().await;
    let (_nats, bridge) = start(&site).await;
    let url = format!("ws://{}/v1/ws", bridge.address());
    let page = Page::open(&site, "multiplex", &url, "ticks.>");
    assert_eq!(page.reports("open").await["protocol"], "natsway.v1");
    publish_numbers(&bridge).await;
    assert_in_order(&page.reports("done").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_foreign_origin_gets_nothing() {
    let (friend, stranger) = (Site::open().await, Site::open().await);
    let (nats, bridge) = start(&friend).await;
    let mut spy = nats.raw().await;
    spy.subscribe(">").await;
    let subscribe = bridge.url("/v1/subscribe/ticks.%3E");
    let publish = bridge.url("/v1/publish/ticks.all");
    for (how, url) in [
        ("eventsource", subscribe.clone()),
        ("websocket", subscribe.replacen("http", "ws", 1)),
        ("multiplex", bridge.url("/v1/ws").replacen("http", "ws", 1)),
        ("fetch", publish),
    ] {
        let page = Page::open(&stranger, how, &url, "");
        let report = page.reports("done").await;
        assert_eq!(report["refused"], true, "{how}: {report}");
    }
    let refused = [("code", "origin-not-allowed")];
    let refused = bridge.metric("natsway_http_problems_total", &refused).await;
    assert!(refused >= 4.0, "refused by natsway itself: {refused}");
    let published = spy.drain().await;
    let published: Vec<_> = published
        .iter()
        .filter(|m| m.subject.starts_with("ticks"))
        .collect();
    assert!(
        published.is_empty(),
        "a stranger's page has published: {published:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_without_an_origin_gets_nothing() {
    let site = Site::open().await;
    let (nats, bridge) = start(&site).await;
    let mut spy = nats.raw().await;
    spy.subscribe("ticks.>").await;
    let page = Page::open(&site, "framed", &bridge.url(""), "");
    page.reports("done").await;
    let frames = page.all("frame");
    let of = |kind: &'static str| frames.iter().filter(move |report| report["kind"] == kind);
    let plain: Vec<_> = of("plain").collect();
    assert_eq!(plain.len(), 1, "{frames:?}");
    assert_eq!(plain[0]["origin"], site.origin);
    assert_eq!(plain[0]["status"], 204, "a listed origin publishes");
    for kind in ["sandbox", "data"] {
        let mut ways = Vec::new();
        for report in of(kind) {
            assert_eq!(report["origin"], "null", "{report}");
            assert_eq!(report["refused"], true, "{report}");
            ways.push(report["frame"].as_str().expect("a word"));
        }
        assert_eq!(ways, ["eventsource", "websocket", "multiplex", "fetch"]);
    }
    // It was natsway that refused each of them, and not the browser.
    let refused = [("code", "origin-not-allowed")];
    let refused = bridge.metric("natsway_http_problems_total", &refused).await;
    assert!(refused >= 8.0, "{refused}");
    let published = spy.drain().await;
    assert_eq!(
        published.len(),
        1,
        "only by the listed origin: {published:?}"
    );
}

/// Reports what the example of the README does, without changing a letter of it but the address.
const OBSERVED: &str = r"<!doctype html><script>
    console.log = (data) => report({ log: data });
    const Real = EventSource;
    EventSource = function (url) {
        const source = new Real(url);
        source.addEventListener('open', () => report({ open: true }));
        return source;
    };
    const close = Real.prototype.close;
    Real.prototype.close = function () {
        close.call(this);
        report({ done: true, readyState: this.readyState });
    };
</script><script type='module'>EXAMPLE</script>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_readme_works() {
    let site = Site::open().await;
    let (_nats, bridge) = start(&site).await;
    let blocks = blocks(&readme());
    let example = blocks.iter().find(|block| block.language == "js");
    let example = &example.expect("the README has an example").text;
    let example = example.replace("127.0.0.1:4280", bridge.address());
    site.show(OBSERVED.replace("EXAMPLE", &example));
    let page = Page::open(&site, "readme", "", "");
    page.reports("open").await;
    for body in ["one", "two"] {
        bridge
            .post("/v1/publish/greet.all")
            .body(body)
            .send()
            .await
            .expect(204);
    }
    let done = page.reports("done").await;
    assert_eq!(done["readyState"], 2);
    let logged = page.all("log");
    assert_eq!(logged, [json!({"log": "one"}), json!({"log": "two"})]);
}
