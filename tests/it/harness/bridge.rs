//! The real natsway binary, in front of a real server, on free ports.

mod metrics;
mod reload;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, Opened, Request};
use super::eventually::{SOON, eventually, eventually_some};
use super::nats::Nats;
use super::process::{Output, Process};
use super::raw_http;
use super::ws::Ws;

/// How to start natsway.
pub(crate) struct Builder {
    yaml: String,
    env: Vec<(String, String)>,
    args: Vec<String>,
    servers: Option<String>,
    unix: bool,
    wait_ready: bool,
}

impl Builder {
    /// In front of this server.
    pub(crate) fn nats(self, nats: &Nats) -> Self {
        self.servers(&nats.url())
    }

    /// In front of these servers, separated by commas (a cluster, a fault proxy).
    pub(crate) fn servers(mut self, urls: &str) -> Self {
        self.servers = Some(urls.to_owned());
        self
    }

    /// The configuration file, as a user writes it. Ports and servers are set besides it; a file
    /// with a `listen:` section sets its own.
    pub(crate) fn yaml(mut self, text: &str) -> Self {
        self.yaml.push_str(text);
        self.yaml.push('\n');
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An argument of the command line.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Listens on a Unix socket as well; see [`Bridge::socket`].
    pub(crate) fn unix_socket(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Returns when the listeners are open, ready or not.
    pub(crate) fn without_waiting(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> Bridge {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("natsway.yaml");
        std::fs::write(&file, &self.yaml).expect("the directory is ours");
        let output = Output::default();
        let process = Process::start("natsway", self.command(dir.path(), &file), output);
        let listeners = if self.unix { 2 } else { 1 };
        let (data, admin) = addresses(&process, listeners).await;
        let tcp = data.iter().find(|address| !address.starts_with("unix:"));
        let bridge = Bridge {
            client: Client::new(&format!("http://{}", tcp.cloned().unwrap_or_default())),
            admin_client: reqwest::Client::builder()
                .no_proxy()
                // Tests shorten idle timeouts, and a connection may be closed while it is taken.
                .pool_max_idle_per_host(0)
                .build()
                .expect("a client without TLS"),
            data,
            admin,
            process: Mutex::new(process),
            dir,
        };
        if self.wait_ready {
            bridge.is_ready().await;
        }
        bridge
    }

    /// Runs the binary to its end, for sub-commands and refusals: status and everything it said.
    pub(crate) async fn run(self) -> (ExitStatus, String) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("natsway.yaml");
        std::fs::write(&file, &self.yaml).expect("the directory is ours");
        let process = Process::start(
            "natsway",
            self.command(dir.path(), &file),
            Output::default(),
        );
        let status = process.wait_exit(SOON).await;
        let output = process.output.clone();
        output.finished().await;
        (status, output.lines().join("\n"))
    }

    fn command(&self, dir: &Path, file: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsway"));
        command
            .env_clear()
            .arg("--config")
            .arg(file)
            .args(&self.args);
        for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("RUST_BACKTRACE", "1");
        if !self.yaml.lines().any(|line| line.starts_with("listen:")) {
            let mut data = "127.0.0.1:0".to_owned();
            if self.unix {
                data.push_str(&format!(",unix:{}", dir.join("http.sock").display()));
            }
            command.env("NATSWAY_LISTEN__DATA", data);
            command.env("NATSWAY_LISTEN__ADMIN", "127.0.0.1:0");
        }
        if let Some(servers) = &self.servers {
            command.env("NATSWAY_NATS__SERVERS", servers);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Reads the bound addresses from the log, as an operator would.
async fn addresses(process: &Process, listeners: usize) -> (Vec<String>, String) {
    eventually_some(SOON, "natsway logs where it listens", async || {
        let lines: Vec<Value> = process
            .output
            .lines()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let bound = |message: &str| -> Vec<String> {
            lines
                .iter()
                .filter(|line| member(line, "msg") == Some(message))
                .filter_map(|line| member(line, "address").map(str::to_owned))
                .collect()
        };
        let data = bound("listening for requests");
        let admin = bound("listening for probes and scrapers");
        if data.len() >= listeners && !admin.is_empty() {
            return Some((data, admin[0].clone()));
        }
        let exited = process.exited();
        assert!(
            exited.is_none(),
            "natsway ended before it listened: {exited:?}"
        );
        None
    })
    .await
}

/// A field of a log line, at the top or under `fields`.
fn member<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line[name]
        .as_str()
        .or_else(|| line["fields"][name].as_str())
}

/// The running natsway; killed when dropped, and its log is shown when the test fails.
pub(crate) struct Bridge {
    client: Client,
    admin_client: reqwest::Client,
    data: Vec<String>,
    admin: String,
    process: Mutex<Process>,
    dir: TempDir,
}

impl Bridge {
    /// natsway with this configuration in front of `nats`, ready.
    pub(crate) async fn start(nats: &Nats, yaml: &str) -> Self {
        Self::builder().nats(nats).yaml(yaml).start().await
    }

    /// For everything out of the ordinary.
    pub(crate) fn builder() -> Builder {
        Builder {
            yaml: String::new(),
            env: Vec::new(),
            args: Vec::new(),
            servers: None,
            unix: false,
            wait_ready: true,
        }
    }

    /// `host:port` of the first TCP data listener.
    pub(crate) fn address(&self) -> &str {
        let tcp = self
            .data
            .iter()
            .find(|address| !address.starts_with("unix:"));
        tcp.expect("a TCP listener")
    }

    /// `host:port` of the admin listener.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// The Unix socket, where one was asked for.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("http.sock")
    }

    /// The configuration file, to change before a reload.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("natsway.yaml")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The client, for a task of its own.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        self.client.get(path)
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        self.client.post(path)
    }

    pub(crate) fn put(&self, path: &str) -> Request {
        self.client.put(path)
    }

    pub(crate) fn delete(&self, path: &str) -> Request {
        self.client.delete(path)
    }

    /// A subscription as server-sent events.
    pub(crate) async fn sse(&self, path: &str) -> Opened {
        self.client.sse(path).await
    }

    /// A subscription as NDJSON.
    pub(crate) async fn ndjson(&self, path: &str) -> Opened {
        self.client.ndjson(path).await
    }

    /// A WebSocket.
    pub(crate) async fn ws(&self, path: &str) -> Ws {
        let opened = Ws::connect(self.address(), path, &[]).await;
        opened.unwrap_or_else(|error| panic!("{path} opens as WebSocket: {error}"))
    }

    /// A connection for raw bytes.
    pub(crate) async fn raw(&self) -> raw_http::Connection {
        raw_http::Connection::tcp(self.address()).await
    }

    /// A page of the admin listener: status and body.
    pub(crate) async fn admin_get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin);
        let response = self.admin_client.get(url).send().await;
        let response = response.expect("the admin listener answers");
        let status = response.status().as_u16();
        (status, response.text().await.unwrap_or_default())
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn is_ready(&self) {
        eventually(SOON, "natsway is ready", async || {
            let exited = self.process.lock().expect("no holder panics").exited();
            assert!(
                exited.is_none(),
                "natsway ended before it was ready: {exited:?}"
            );
            self.admin_get("/readyz").await.0 == 200
        })
        .await;
    }

    /// Waits until it is connected to NATS now.
    pub(crate) async fn is_connected(&self) {
        eventually(SOON, "natsway is connected", async || {
            self.admin_get("/readyz?strict=true").await.0 == 200
        })
        .await;
    }

    /// Waits until it has noticed that NATS is away.
    pub(crate) async fn is_disconnected(&self) {
        eventually(SOON, "natsway notices that NATS is away", async || {
            self.admin_get("/readyz?strict=true").await.0 == 503
        })
        .await;
    }

    /// What it has logged, a JSON value a line; lines that are none are left out.
    pub(crate) fn log(&self) -> Vec<Value> {
        let lines = self.output().lines();
        let parsed = lines.iter().map(|line| serde_json::from_str(line));
        parsed.filter_map(Result::ok).collect()
    }

    /// Waits for a line of the log that holds `needle`.
    pub(crate) async fn logs(&self, needle: &str) -> String {
        eventually_some(SOON, &format!("natsway logs {needle:?}"), async || {
            let lines = self.output().lines();
            lines.into_iter().find(|line| line.contains(needle))
        })
        .await
    }

    /// SIGTERM.
    pub(crate) fn sigterm(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Any signal: SIGHUP reloads, SIGSTOP freezes.
    pub(crate) fn signal(&self, signal: i32) {
        self.process
            .lock()
            .expect("no holder panics")
            .signal(signal);
    }

    /// `kill -9`, and wait until it is gone.
    pub(crate) fn kill9(&self) {
        self.process.lock().expect("no holder panics").kill9();
    }

    /// The exit status, if it has ended.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.process.lock().expect("no holder panics").exited()
    }

    /// Waits for the end, and until all that it has said can be read.
    pub(crate) async fn wait_exit(&self, bound: Duration) -> ExitStatus {
        let status = eventually_some(bound, "natsway ends", async || self.exited()).await;
        self.output().finished().await;
        status
    }

    /// Resident memory.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("Linux, and natsway is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok())
            .expect("VmRSS in kB");
        kib * 1024
    }

    /// Open file descriptors.
    pub(crate) fn fds(&self) -> usize {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        entries.expect("Linux, and natsway is running").count()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.lock().expect("no holder panics").pid()
    }

    fn output(&self) -> Output {
        self.process
            .lock()
            .expect("no holder panics")
            .output
            .clone()
    }
}
