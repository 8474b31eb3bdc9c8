//! One connection for the time it lives: an epoch.
//!
//! Nothing here survives it. A queue, its tickets, the fences and the replies belong to one
//! connection; when it goes, everybody who waits learns at once what that means for them.

mod asking;
mod sending;
mod subscribing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_nats::{Client, ServerInfo, Subscriber};

use super::connect::{Channel, InboxRights, Opened};
use super::events::Signals;
use super::permissions::Permissions;
use super::queue::SendQueue;
use super::{Failure, Outbound};

/// How many subscriptions may wait for the server's opinion at once: two events for each, and those of
/// the fences, fit the channel.
const REGISTERING_MAX: usize = 48;

/// One connection to one server.
pub struct Connection {
    pub(super) epoch: u64,
    pub(super) client: Client,
    pub(super) signals: Arc<Signals>,
    pub(super) queue: Arc<SendQueue>,
    pub(super) rights: InboxRights,
    pub(super) inbox_root: String,
    /// Held by each inbox of its own.
    pub(super) inboxes: Arc<()>,
    /// The sender is handing over a batch.
    pub(super) sending: AtomicBool,
    pub(super) info: ServerInfo,
    permissions: Permissions,
    subscribing: tokio::sync::Mutex<()>,
    subscriptions: AtomicU64,
    /// Held from a SUB that may be denied until it is known whether it was.
    pub(super) registering: tokio::sync::Semaphore,
    probes: AtomicU64,
    pub(super) channel: Channel,
    _markers: Vec<Subscriber>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(opened: Opened, epoch: u64) -> (Arc<Self>, Subscriber) {
        let info = opened.client.server_info();
        let connection = Self {
            epoch,
            client: opened.client,
            queue: Arc::clone(&opened.signals.queue),
            signals: opened.signals,
            rights: opened.rights,
            inbox_root: opened.inbox_root,
            inboxes: Arc::default(),
            sending: AtomicBool::new(false),
            info,
            permissions: opened.permissions,
            subscribing: tokio::sync::Mutex::new(()),
            subscriptions: AtomicU64::new(opened.subscriptions),
            registering: tokio::sync::Semaphore::new(REGISTERING_MAX),
            probes: AtomicU64::new(0),
            channel: opened.channel,
            _markers: opened.markers,
        };
        (Arc::new(connection), opened.inbox)
    }

    /// Counts connections of a link, from 1.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The server's INFO as it was at the connect.
    #[must_use]
    pub const fn server(&self) -> &ServerInfo {
        &self.info
    }

    pub(super) fn is_closed(&self) -> bool {
        self.signals.closed.is_cancelled()
    }

    /// Whether the server could deny messages that we believe are allowed.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.signals.uncertain.load(Ordering::Acquire)
    }

    /// Whether half of the send queue stays free when so much is sent. Who has much to send, and
    /// time, leaves that half to those who have not.
    #[must_use]
    pub fn keeps_half_free(&self, messages: usize, bytes: usize) -> bool {
        self.queue.keeps_half_free(messages, bytes)
    }

    /// Ends it, for all who use it.
    pub(super) fn close(&self) {
        self.signals.close();
    }

    /// Refuses what the server would refuse, before it costs a round trip or the connection.
    ///
    /// # Errors
    /// Too large for the server, or denied to its user.
    pub fn check(&self, message: &Outbound) -> Result<(), Failure> {
        let limit = self.client.max_payload();
        if message.counted_bytes() > limit {
            return Err(Failure::PayloadTooLarge { limit });
        }
        if !self.permissions.permits_publish(message.subject.as_str()) {
            return Err(Failure::PermissionDenied);
        }
        Ok(())
    }

    /// Whether nothing is under way any more.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.depth().0 == 0
            && self.signals.fences.under_way() == 0
            && self.signals.replies.len() == 0
            && Arc::strong_count(&self.inboxes) == 1
            && !self.sending.load(Ordering::Acquire)
    }
}
