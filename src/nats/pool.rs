//! Which link carries what.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connect::Channel;
use super::hub::{Budget, Hub};
use super::link::{Call, Confirm, Link};
use super::pending::Replies;
use super::room::Uncounted;
use super::settings::Settings;
use super::{Failure, Outbound, Reply, Room, supervisor};
use crate::workers::Workers;

const SERVER_DEFAULT_MAX_PAYLOAD: usize = 1024 * 1024;

/// All links of this natsway.
#[derive(Debug)]
pub struct Nats {
    messages: Vec<Arc<Link>>,
    subscriptions: Arc<Link>,
    jetstream: Arc<Link>,
    hub: Hub,
    hasher: std::hash::RandomState,
    /// As last told.
    max_payload: AtomicUsize,
    shutdown: CancellationToken,
    tasks: parking_lot::Mutex<JoinSet<()>>,
}

impl Nats {
    /// Starts to connect, and goes on for ever; ends with [`Self::close`] or when dropped. Each link has a
    /// worker, as far as there are some. `streams` bounds what all subscriptions hold, `replies` what large
    /// replies to requests do.
    #[must_use]
    pub fn start(
        settings: Settings,
        workers: &Workers,
        streams: Arc<Budget>,
        replies: &Arc<dyn Room>,
    ) -> Arc<Self> {
        let settings = Arc::new(settings);
        let (moves, unwatched) = (
            Arc::new(watch::Sender::new(0)),
            Arc::new(watch::Sender::new(0)),
        );
        let messages: Vec<_> = (0..settings.connections.max(1))
            .map(|i| Link::new(format!("messages-{i}"), &moves, replies, Channel::Small))
            .collect();
        let uncounted: Arc<dyn Room> = Arc::new(Uncounted);
        let subscriptions = Link::new(
            "subscriptions".to_owned(),
            &unwatched,
            &uncounted,
            Channel::Large,
        );
        let nats = Self {
            hub: Hub::new(Arc::clone(&subscriptions), messages.clone(), moves, streams),
            messages,
            subscriptions,
            jetstream: Link::new(
                "jetstream".to_owned(),
                &unwatched,
                &uncounted,
                Channel::Small,
            ),
            hasher: std::hash::RandomState::new(),
            max_payload: AtomicUsize::new(SERVER_DEFAULT_MAX_PAYLOAD),
            shutdown: CancellationToken::new(),
            tasks: parking_lot::Mutex::new(JoinSet::new()),
        };
        {
            let mut tasks = nats.tasks.lock();
            for (number, link) in nats.links().enumerate() {
                let link = Arc::clone(link);
                let supervised =
                    supervisor::run(link, Arc::clone(&settings), nats.shutdown.clone());
                tasks.spawn_on(supervised, workers.nth(number).runtime());
            }
        }
        Arc::new(nats)
    }

    /// Every link.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.messages
            .iter()
            .chain([&self.subscriptions, &self.jetstream])
    }

    /// The link that carries all messages to `subject`, so that their order holds.
    #[must_use]
    pub fn link_for(&self, subject: &str) -> &Arc<Link> {
        if self.messages.len() == 1 {
            return &self.messages[0];
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(subject.as_bytes());
        let index = hasher.finish() % self.messages.len() as u64;
        &self.messages[usize::try_from(index).unwrap_or(0)]
    }

    /// The links that carry messages.
    #[must_use]
    pub fn message_links(&self) -> &[Arc<Link>] {
        &self.messages
    }

    /// All subscriptions.
    #[must_use]
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The link of subscriptions.
    #[must_use]
    pub const fn subscriptions(&self) -> &Arc<Link> {
        &self.subscriptions
    }

    /// The link for JetStream's API, fetches and replays.
    #[must_use]
    pub const fn jetstream(&self) -> &Arc<Link> {
        &self.jetstream
    }

    /// Publishes a message over its subject's link.
    ///
    /// # Errors
    /// See [`Link::publish`].
    pub fn publish(
        &self,
        message: Outbound,
        confirm: Confirm,
        call: Call,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        self.link_for(&message.subject)
            .publish(message, confirm, call)
    }

    /// Sends a request over its subject's link.
    ///
    /// # Errors
    /// See [`Link::request`].
    pub fn request(
        &self,
        message: Outbound,
        call: Call,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send {
        self.link_for(&message.subject).request(message, call)
    }

    /// Sends a request that many may answer.
    ///
    /// # Errors
    /// See [`Link::request_many`].
    pub async fn request_many(
        &self,
        message: Outbound,
        capacity: usize,
        call: Call,
    ) -> Result<Replies, Failure> {
        self.link_for(&message.subject)
            .request_many(message, capacity, call)
            .await
    }

    /// Whether every link is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.links().all(|link| link.now().is_some())
    }

    /// Waits until every link has been connected, with a round trip passed; for ever if one is closed
    /// before.
    pub async fn connected_once(&self) {
        for link in self.links() {
            let mut state = link.state();
            let connected = state
                .wait_for(|state| state.epoch().is_some())
                .await
                .is_ok();
            if !connected {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The server's `max_payload` in bytes, as last told; 1 MiB before the first connect.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        let before = self.max_payload.load(Ordering::Relaxed);
        let now = self.messages[0].max_payload().unwrap_or(before);
        // Asked for every request: where nothing changed, nothing is written.
        if now != before {
            self.max_payload.store(now, Ordering::Relaxed);
        }
        now
    }

    /// The version of the server behind the JetStream link, as `(major, minor, patch)`.
    #[must_use]
    pub fn server_version(&self) -> Option<(u32, u32, u32)> {
        let connection = self.jetstream.now()?;
        let mut numbers = connection
            .server()
            .version
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    }

    /// Waits until what was sent has been read by the servers, then closes all links; not later
    /// than `deadline`.
    pub async fn close(&self, deadline: Instant) {
        let connections: Vec<_> = self.links().filter_map(|link| link.now()).collect();
        let drained = connections.iter().map(|of| of.drain(deadline));
        let _as_far_as_possible = join_all(drained).await;
        self.shutdown.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _aborted_by_drop = timeout_at(
            deadline.max(Instant::now() + Duration::from_millis(100)),
            ended,
        )
        .await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
