//! What async-nats tells about a connection besides messages.
//!
//! Its events come one after the other through one channel, in the order in which they happened on
//! the wire. Nothing here waits: the channel holds 128 events and drops the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Event, ServerError};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fence::Fences;
use super::replies::ReplyTable;
use super::stats::LinkStats;

/// A permission error, as the server worded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A message was refused.
    Publish(String),
    /// A subscription was refused or taken away.
    Subscription(String),
}

impl Violation {
    /// Reads `Permissions Violation for Publish to "x"` (nats-server, `client.go`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        const PUBLISH: &str = "Permissions Violation for Publish to \"";
        const SUBSCRIPTION: &str = "Permissions Violation for Subscription to \"";
        let subject = |rest: &str| rest.find('"').map(|end| rest[..end].to_owned());
        if let Some(start) = text.find(PUBLISH) {
            return subject(&text[start + PUBLISH.len()..]).map(Self::Publish);
        }
        let start = text.find(SUBSCRIPTION)?;
        subject(&text[start + SUBSCRIPTION.len()..]).map(Self::Subscription)
    }
}

/// Where a connection's events go.
#[derive(Debug)]
pub(super) struct Signals {
    /// The connection is over; it never comes back.
    pub(super) closed: CancellationToken,
    /// The server is about to leave.
    pub(super) lame_duck: CancellationToken,
    pub(super) fences: Fences,
    pub(super) replies: Arc<ReplyTable>,
    pub(super) stats: Arc<LinkStats>,
    /// The marker's subscription id; 0 while there is none.
    pub(super) marker_sid: AtomicU64,
    /// Counts the marker's events, for arming it.
    pub(super) marker_events: watch::Sender<u64>,
    /// Subscriptions the server refused, newest last; bounded.
    refused: Mutex<Vec<String>>,
    /// Subscription ids that lost a message because nobody read them fast enough.
    slow: Mutex<Vec<u64>>,
    /// The account allows no more subscriptions.
    pub(super) subscription_limit: watch::Sender<u64>,
    /// Bumped after each event that `refused` or `slow` tells about.
    pub(super) changed: watch::Sender<u64>,
}

/// How many refused subscriptions are remembered until somebody asks.
const REMEMBERED_MAX: usize = 4096;

impl Signals {
    pub(super) fn new(replies: Arc<ReplyTable>, stats: Arc<LinkStats>) -> Arc<Self> {
        Arc::new(Self {
            closed: CancellationToken::new(),
            lame_duck: CancellationToken::new(),
            fences: Fences::default(),
            replies,
            stats,
            marker_sid: AtomicU64::new(0),
            marker_events: watch::Sender::new(0),
            refused: Mutex::default(),
            slow: Mutex::default(),
            subscription_limit: watch::Sender::new(0),
            changed: watch::Sender::new(0),
        })
    }

    /// Ends the connection for everybody who uses it.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.fences.fail_all();
        self.replies.fail_all();
    }

    /// Takes one event.
    pub(super) fn on(&self, event: Event) {
        match event {
            Event::SlowConsumer(sid) if sid == self.marker_sid.load(Ordering::Acquire) => {
                self.on_marker()
            }
            Event::SlowConsumer(sid) => {
                self.stats.slow_consumers.fetch_add(1, Ordering::Relaxed);
                remember(&self.slow, sid);
                self.changed.send_modify(|count| *count += 1);
            }
            Event::ServerError(ServerError::Other(text)) => self.on_error(&text),
            Event::ServerError(_) | Event::Disconnected | Event::Closed | Event::ClientError(_) => {
                self.close()
            }
            Event::LameDuckMode => self.lame_duck.cancel(),
            Event::Connected | Event::Draining => {}
        }
    }

    fn on_marker(&self) {
        if !self.fences.is_armed() {
            self.marker_events.send_modify(|count| *count += 1);
        } else if let Some(round_trip) = self.fences.settle_oldest() {
            self.stats.set_round_trip(round_trip);
        }
    }

    fn on_error(&self, text: &str) {
        match Violation::parse(text) {
            Some(violation) => self.on_violation(violation),
            None if text
                .to_ascii_lowercase()
                .contains("maximum subscriptions exceeded") =>
            {
                self.subscription_limit.send_modify(|count| *count += 1);
                self.changed.send_modify(|count| *count += 1);
            }
            // Every other error is followed by the server closing the connection.
            None => {
                tracing::warn!(error = text, "the NATS server reports an error");
                self.stats.server_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn on_violation(&self, violation: Violation) {
        self.stats.permission_errors.fetch_add(1, Ordering::Relaxed);
        match violation {
            Violation::Publish(subject) => {
                self.fences.deny(&subject);
                self.replies.deny(&subject);
                remember(&self.refused, subject);
            }
            Violation::Subscription(subject) => remember(&self.refused, subject),
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether the server has refused `subject` on this connection since it was last asked.
    pub(super) fn take_refused(&self, subject: &str) -> bool {
        let mut refused = self.refused.lock();
        let before = refused.len();
        refused.retain(|of| of != subject);
        refused.len() < before
    }

    /// Whether the subscription `sid` has lost messages since it was last asked.
    pub(super) fn lost_messages(&self, sid: u64) -> bool {
        let mut slow = self.slow.lock();
        let before = slow.len();
        slow.retain(|of| *of != sid);
        slow.len() < before
    }
}

fn remember<T: PartialEq>(list: &Mutex<Vec<T>>, item: T) {
    let mut list = list.lock();
    if list.len() < REMEMBERED_MAX && !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_understood() {
        let publish = Violation::parse("Permissions Violation for Publish to \"a.b\"");
        assert_eq!(publish, Some(Violation::Publish("a.b".into())));
        let queue =
            Violation::parse("Permissions Violation for Subscription to \"a.>\" using queue \"q\"");
        assert_eq!(queue, Some(Violation::Subscription("a.>".into())));
        assert_eq!(Violation::parse("Stale Connection"), None);
        assert_eq!(
            Violation::parse("Permissions Violation for Publish to \"unfinished"),
            None
        );
    }
}
