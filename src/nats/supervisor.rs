//! Keeps a link connected, for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{ServerInfo, Subscriber};
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::{self, ConnectError};
use super::connection::Connection;
use super::events::Signals;
use super::link::{Link, LinkState};
use super::reading::Reading;
use super::sender;
use super::settings::Settings;
use super::upkeep;

/// How long a connection to a leaving server may still finish what it began. The server's own
/// default leaves ten seconds before it evicts (nats-server, `const.go`).
const RETIRE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long it stays at least, for those who got hold of it before the next one was there.
const RETIRE_LINGER: Duration = Duration::from_secs(1);
/// How often a standing outage is said again.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Supervises `link` until `shutdown`.
pub(super) async fn run(link: Arc<Link>, settings: Arc<Settings>, shutdown: CancellationToken) {
    let mut supervisor = Supervisor::new(link, settings);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = supervisor.supervise() => {}
    }
    supervisor.end();
}

struct Supervisor {
    link: Arc<Link>,
    settings: Arc<Settings>,
    /// What the last server told about its cluster.
    discovered: Vec<String>,
    epoch: u64,
    failures: u32,
    said: Option<Instant>,
    live: Option<Live>,
    /// Connections to servers that leave, finishing what they began.
    retiring: JoinSet<()>,
}

/// A connection with the tasks that work for it; dropping it ends them.
struct Live {
    connection: Arc<Connection>,
    since: Instant,
    tasks: JoinSet<()>,
    _inbox: Reading<Subscriber, Arc<Signals>>,
}

impl Drop for Live {
    /// Nothing of it stays behind unsettled or uncounted.
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Supervisor {
    fn new(link: Arc<Link>, settings: Arc<Settings>) -> Self {
        Self {
            link,
            settings,
            discovered: Vec::new(),
            epoch: 0,
            failures: 0,
            said: None,
            live: None,
            retiring: JoinSet::new(),
        }
    }

    async fn supervise(&mut self) {
        loop {
            let live = self.connect_until_done(None).await;
            self.install(live, None);
            while let Some((closed, lame_duck)) = self.signals() {
                tokio::select! {
                    biased;
                    () = closed.cancelled() => break,
                    () = lame_duck.cancelled() => self.replace_leaving(&closed).await,
                }
            }
            self.uninstall_closed().await;
        }
    }

    fn signals(&self) -> Option<(CancellationToken, CancellationToken)> {
        let signals = &self.live.as_ref()?.connection.signals;
        Some((signals.closed.clone(), signals.lame_duck.clone()))
    }

    /// Looks for another server while the leaving one still serves, and goes there.
    async fn replace_leaving(&mut self, closed: &CancellationToken) {
        let leaving = self
            .live
            .as_ref()
            .map(|live| live.connection.info.server_id.clone());
        tracing::info!(
            link = self.link.name(),
            "the NATS server is about to leave; looking for another"
        );
        self.link.set_state(LinkState::LameDuck(self.epoch));
        let found = tokio::select! {
            biased;
            () = closed.cancelled() => None,
            live = self.connect_until_done(leaving) => Some(live),
        };
        if let Some(next) = found {
            let old = self.live.take();
            let before = old.as_ref().map(|old| Arc::clone(&old.connection));
            self.install(next, before);
            while self.retiring.try_join_next().is_some() {}
            if let Some(old) = old {
                self.retiring.spawn(retire(old));
            }
        }
    }

    /// From now on callers get `live`; what they left in the connection `before` goes first.
    fn install(&mut self, mut live: Live, before: Option<Arc<Connection>>) {
        self.said = None;
        let server = &live.connection.info;
        self.discovered = discovered(server);
        self.link.stats().connects.fetch_add(1, Ordering::Relaxed);
        tracing::info!(link = self.link.name(), epoch = self.epoch, server = %server.server_name, "connected to NATS");
        if !live.connection.rights.can_fence() {
            let prefix = &self.settings.inbox_prefix;
            tracing::warn!(
                link = self.link.name(),
                "the NATS user needs publish and subscribe on \"{prefix}.>\"; without, confirm=server is not available"
            );
        }
        self.link.set(
            Some(Arc::clone(&live.connection)),
            LinkState::Connected(self.epoch),
        );
        live.tasks
            .spawn(sender::run(Arc::clone(&live.connection), before));
        self.live = Some(live);
    }

    async fn uninstall_closed(&mut self) {
        let Some(live) = self.live.take() else { return };
        self.link.set(None, LinkState::Connecting);
        live.connection.close();
        self.link
            .stats()
            .disconnects
            .fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            link = self.link.name(),
            epoch = live.connection.epoch,
            "disconnected from NATS"
        );
        // A connection that breaks at once, again and again, must not become a hot loop.
        if live.since.elapsed() > self.settings.reconnect_max {
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        if self.failures > 0 {
            sleep(self.backoff()).await;
        }
    }

    /// Tries until it succeeds; a server with the id `not` is not good enough.
    async fn connect_until_done(&mut self, not: Option<String>) -> Live {
        loop {
            for address in self.addresses() {
                match connect::open(&self.settings, &address, &self.link).await {
                    Ok(opened) => {
                        let live = self.enliven(opened);
                        if not.as_deref() != Some(live.connection.info.server_id.as_str()) {
                            return live;
                        }
                    }
                    Err(error) => self.on_failure(&address, &error),
                }
            }
            self.failures = self.failures.saturating_add(1);
            sleep(self.backoff()).await;
        }
    }

    fn enliven(&mut self, opened: connect::Opened) -> Live {
        self.epoch += 1;
        let (connection, inbox) = Connection::new(opened, self.epoch);
        let mut tasks = JoinSet::new();
        // At once: replies to whoever gets hold of the connection first find room for a few only.
        let inbox = Reading::begin(inbox, Arc::clone(&connection.signals));
        tasks.spawn(upkeep::watch(
            Arc::clone(&connection),
            self.settings.ping_interval,
        ));
        Live {
            connection,
            since: Instant::now(),
            tasks,
            _inbox: inbox,
        }
    }

    fn on_failure(&mut self, address: &str, error: &ConnectError) {
        self.link
            .stats()
            .connect_failures
            .fetch_add(1, Ordering::Relaxed);
        if self.said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!(link = self.link.name(), address, %error, "cannot connect to NATS; it is tried again for ever");
        }
    }

    /// Every known address once, in random order.
    fn addresses(&self) -> Vec<String> {
        let mut all = self.settings.servers.clone();
        for address in &self.discovered {
            if !all.iter().any(|known| host_and_port(known) == address) {
                all.push(address.clone());
            }
        }
        all.shuffle(&mut rand::rng());
        all
    }

    fn backoff(&self) -> Duration {
        let settings = &self.settings;
        backoff(
            self.failures,
            settings.reconnect_min,
            settings.reconnect_max,
        )
    }

    fn end(&mut self) {
        self.link.set(None, LinkState::Closed);
        self.live = None;
    }
}

/// Full jitter: anything between the least and the bound that doubles with each failure.
fn backoff(failures: u32, min: Duration, max: Duration) -> Duration {
    let bound = min
        .saturating_mul(1 << failures.min(16))
        .clamp(min, max.max(min));
    rand::rng().random_range(min..=bound)
}

/// An address without its scheme, as servers tell theirs.
fn host_and_port(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

/// Other servers of the cluster, unless addresses from INFO would not do: a name in a certificate
/// or a scheme is known for the configured ones only.
fn discovered(server: &ServerInfo) -> Vec<String> {
    if server.tls_required {
        Vec::new()
    } else {
        server.connect_urls.clone()
    }
}

/// Lets a connection finish what it began.
async fn retire(live: Live) {
    let idle = async {
        sleep(RETIRE_LINGER).await;
        while !live.connection.is_idle() && !live.connection.is_closed() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _at_the_limit = timeout(RETIRE_TIMEOUT, idle).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(2);

    #[test]
    fn waits_lie_between_the_least_and_a_bound_that_doubles() {
        for (failures, bound) in [
            (0, MIN),
            (1, 2 * MIN),
            (3, 8 * MIN),
            (6, MAX),
            (u32::MAX, MAX),
        ] {
            for _ in 0..200 {
                let wait = backoff(failures, MIN, MAX);
                assert!((MIN..=bound).contains(&wait), "{failures}: {wait:?}");
            }
        }
        assert_eq!(backoff(9, MAX, MIN), MAX, "the least counts");
    }

    #[test]
    fn many_that_wait_do_not_come_back_at_once() {
        let waits: Vec<_> = (0..200).map(|_| backoff(9, MIN, MAX)).collect();
        let (early, late) = (MAX / 4, MAX * 3 / 4);
        assert!(waits.iter().any(|wait| *wait < early), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > late), "{waits:?}");
    }
}
