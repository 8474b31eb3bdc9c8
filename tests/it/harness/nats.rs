//! A real nats-server of this test's own.

pub(crate) mod binary;
mod jetstream;

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tempfile::TempDir;

use super::eventually::{SOON, eventually, eventually_some};
use super::process::{Output, Port, Process};
use super::watchdog::Watched;
use super::{raw, within};

/// How to start a server: `Nats::builder().config("…").start()`.
#[derive(Clone)]
pub(crate) struct Builder {
    name: String,
    jetstream: bool,
    config: String,
    host: &'static str,
}

impl Builder {
    /// More configuration text in the server's own language (users, accounts, `max_payload`…).
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// Without JetStream.
    pub(crate) fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// The server's name, for members of a cluster.
    pub(crate) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Starts it and waits until it answers, as itself.
    pub(crate) async fn start(self) -> Nats {
        for _ in 0..20 {
            if let Some(nats) = self.clone().attempt().await {
                return nats;
            }
        }
        panic!("no free port for nats-server after 20 attempts");
    }

    async fn attempt(self) -> Option<Nats> {
        let nats = self.spawn();
        nats.answers().await.then_some(nats)
    }

    /// Starts it without waiting: members of a cluster need each other.
    pub(crate) fn spawn(self) -> Nats {
        let ports = [Port::some(), Port::some()];
        let [port, http] = [&ports[0], &ports[1]].map(Port::number);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let nats = Nats {
            port,
            http,
            output: Output::default(),
            process: Mutex::new(None),
            _ports: ports,
            builder: Mutex::new(self),
            dir,
            _watched: Watched::this_test(),
        };
        nats.write_config();
        nats.launch();
        nats
    }
}

/// The running server.
pub(crate) struct Nats {
    /// The client port; the same after a restart.
    pub(crate) port: u16,
    http: u16,
    output: Output,
    process: Mutex<Option<Process>>,
    /// Given back when the process is gone.
    _ports: [Port; 2],
    builder: Mutex<Builder>,
    dir: TempDir,
    _watched: Watched,
}

impl Nats {
    pub(crate) fn builder() -> Builder {
        Builder {
            name: format!("test-{:016x}", rand::random::<u64>()),
            jetstream: true,
            config: String::new(),
            host: "127.0.0.1",
        }
    }

    /// A server with JetStream and no users.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn name(&self) -> String {
        self.builder.lock().expect("no holder panics").name.clone()
    }

    pub(crate) fn host_port(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.host_port())
    }

    /// An ordinary NATS client, independent of natsway.
    pub(crate) async fn client(&self) -> async_nats::Client {
        self.client_with(async_nats::ConnectOptions::new()).await
    }

    /// The same, as a user.
    pub(crate) async fn client_as(&self, user: &str, password: &str) -> async_nats::Client {
        let options =
            async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
        self.client_with(options).await
    }

    async fn client_with(&self, options: async_nats::ConnectOptions) -> async_nats::Client {
        let client = options
            .name("test")
            .connection_timeout(SOON)
            .request_timeout(Some(SOON))
            .connect(self.url())
            .await
            .expect("the test's own server accepts its client");
        assert_eq!(
            client.server_info().server_name,
            self.name(),
            "not this test's server"
        );
        client
    }

    /// A client that speaks the protocol in raw bytes.
    pub(crate) async fn raw(&self) -> raw::Client {
        raw::Client::connect(&self.host_port()).await
    }

    /// `kill -9`.
    pub(crate) fn kill9(&self) {
        if let Some(process) = self.process.lock().expect("no holder panics").take() {
            process.kill9();
        }
    }

    /// SIGTERM, and wait for the end.
    pub(crate) async fn stop(&self) {
        let process = self.process.lock().expect("no holder panics").take();
        if let Some(process) = process {
            process.signal(libc::SIGTERM);
            process.wait_exit(SOON).await;
        }
    }

    /// Starts it again: same port, same name, same store.
    pub(crate) async fn restart(&self) {
        self.kill9();
        eventually(SOON, "nats-server is back on its port", async || {
            self.kill9();
            self.launch();
            self.answers().await
        })
        .await;
    }

    /// SIGSTOP: the sockets stay open, nothing answers. Returns when every thread has stopped.
    pub(crate) async fn pause(&self) {
        self.signal(libc::SIGSTOP);
        eventually(SOON, "nats-server stops", async || {
            let process = self.process.lock().expect("no holder panics");
            process
                .as_ref()
                .expect("the server is running")
                .is_stopped()
        })
        .await;
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Asks it to let its clients go, one by one, and end.
    pub(crate) fn lame_duck(&self) {
        self.signal(libc::SIGUSR2);
    }

    /// Replaces the additional configuration text, for the next start.
    pub(crate) fn reconfigure(&self, config: &str) {
        config.clone_into(&mut self.builder.lock().expect("no holder panics").config);
        self.write_config();
    }

    /// Replaces the additional configuration text and waits until the server has taken it.
    pub(crate) async fn reload(&self, config: &str) {
        self.reconfigure(config);
        let before = self.output.count("Reloaded server configuration");
        self.signal(libc::SIGHUP);
        eventually(SOON, "nats-server reloads its configuration", async || {
            self.output.count("Reloaded server configuration") > before
        })
        .await;
    }

    /// What the server itself says about its clients: one entry a connection, newest last.
    pub(crate) async fn connections(&self) -> Vec<Value> {
        let answer = self.monitor("/connz?subs=1&auth=1&limit=4096").await;
        let Value::Array(connections) = answer["connections"].clone() else {
            return Vec::new();
        };
        connections
    }

    /// The ids of the connections that natsway holds: an id changes only when a connection does.
    pub(crate) async fn bridge_cids(&self) -> Vec<u64> {
        let connections = self.connections().await;
        let mut cids: Vec<u64> = connections
            .iter()
            .filter(|c| c["name"].as_str().is_some_and(|n| n.starts_with("natsway")))
            .filter_map(|c| c["cid"].as_u64())
            .collect();
        cids.sort_unstable();
        cids
    }

    /// Whether natsway holds no connection to it. A server that nobody holds a connection to leaves at
    /// once, so it may not even answer any more.
    pub(crate) async fn is_left(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/connz?auth=1&limit=4096", self.http);
        let Ok(response) = reqwest::get(url).await else {
            return true;
        };
        let Ok(page) = response.json::<Value>().await else {
            return true;
        };
        let connections = page["connections"].as_array().cloned().unwrap_or_default();
        let mut names = connections.iter().filter_map(|c| c["name"].as_str());
        !names.any(|name| name.starts_with("natsway"))
    }

    /// The number of subscriptions whose subject is `subject`, over all clients.
    pub(crate) async fn subscriptions(&self, subject: &str) -> usize {
        let connections = self.connections().await;
        connections
            .iter()
            .filter_map(|c| c["subscriptions_list"].as_array())
            .flatten()
            .filter(|s| *s == subject)
            .count()
    }

    /// A page of the server's monitoring.
    pub(crate) async fn monitor(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        let response = reqwest::get(url)
            .await
            .expect("the monitoring port answers");
        response.json().await.expect("monitoring speaks JSON")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.output.lines()
    }

    fn signal(&self, signal: i32) {
        let process = self.process.lock().expect("no holder panics");
        process
            .as_ref()
            .expect("the server is running")
            .signal(signal);
    }

    fn launch(&self) {
        let mut command = Command::new(binary::path());
        command.arg("-c").arg(self.dir.path().join("nats.conf"));
        let process = Process::start("nats-server", command, self.output.clone());
        *self.process.lock().expect("no holder panics") = Some(process);
    }

    /// Whether the process on the port is ours; false when the port was taken.
    pub(crate) async fn answers(&self) -> bool {
        let name = self.name();
        eventually_some(SOON, "nats-server answers", async || {
            if self.has_exited() {
                return Some(false);
            }
            let info = raw::server_info(&self.host_port()).await?;
            Some(info["server_name"] == name.as_str() && !self.has_exited())
        })
        .await
    }

    fn has_exited(&self) -> bool {
        let process = self.process.lock().expect("no holder panics");
        process.as_ref().is_none_or(|p| p.exited().is_some())
    }

    fn write_config(&self) {
        let builder = self.builder.lock().expect("no holder panics");
        let mut text = format!(
            "server_name: \"{}\"\nlisten: \"{}:{}\"\nhttp: \"127.0.0.1:{}\"\n\
             lame_duck_grace_period: \"500ms\"\nlame_duck_duration: \"30s\"\n",
            builder.name, builder.host, self.port, self.http
        );
        if builder.jetstream {
            let store = self.dir.path().join("jetstream");
            text.push_str(&format!(
                "jetstream {{ store_dir: \"{}\" }}\n",
                store.display()
            ));
        }
        text.push_str(&builder.config);
        std::fs::write(self.dir.path().join("nats.conf"), text).expect("the directory is ours");
    }

    /// Waits for a span that the test is about, such as "an outage longer than the ping interval".
    pub(crate) async fn outage(&self, span: Duration) {
        self.kill9();
        tokio::time::sleep(span).await;
        self.restart().await;
    }
}

/// Waits until the server has read all that a client sent before, its subscriptions included. The
/// client's own `flush` only writes to the socket.
pub(crate) async fn round_trip(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut echo = client
        .subscribe(inbox.clone())
        .await
        .expect("the client is connected");
    client
        .publish(inbox, bytes::Bytes::new())
        .await
        .expect("the client is connected");
    within(SOON, "a round trip to the server", echo.next()).await;
}

/// All that has come to a subscription by now.
pub(crate) async fn arrived(subscriber: &mut async_nats::Subscriber) -> Vec<async_nats::Message> {
    // Without a budget: tokio would make way in between, which looks as if nothing more were there.
    tokio::task::unconstrained(async {
        let mut all = Vec::new();
        while let Some(Some(message)) = subscriber.next().now_or_never() {
            all.push(message);
        }
        all
    })
    .await
}
