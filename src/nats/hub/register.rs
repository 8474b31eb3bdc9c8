//! When a subscription counts as live.
//!
//! The server handles one connection's commands in order, so a fence behind a SUB proves that its
//! server has it. Another server of the cluster learns of it a moment later; a message that one of
//! our own links publishes there in the meantime would be lost. So, where a link is connected to
//! another server, it sends probes to an inbox that was subscribed after the subject: interest
//! travels in order, and when a probe arrives the subject's interest has arrived there, too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::topic::Topic;
use crate::nats::connection::Connection;
use crate::nats::events::Watched;
use crate::nats::link::{Call, Confirm, Link, LinkState};
use crate::nats::subscription::Subscription;
use crate::nats::{Failure, Outbound};

/// How soon a lost probe is followed by another; doubled each time.
const PROBE_AGAIN: Duration = Duration::from_millis(2);
/// The longest wait between two probes.
const PROBE_AGAIN_MAX: Duration = Duration::from_millis(100);

/// A subscription, and what happens to it.
pub(super) type Subscribed = (Subscription, Watched);

/// The links that a subscription has to do with.
#[derive(Debug)]
pub(super) struct Registrar {
    pub(super) subscriptions: Arc<Link>,
    pub(super) messages: Vec<Arc<Link>>,
    /// Bumped when one of the message links has a new connection.
    pub(super) moves: Arc<watch::Sender<u64>>,
    /// Held by who registers again after the account had no room.
    pub(super) alone: tokio::sync::Mutex<()>,
}

/// How long a link that has moved may take to see a subscription.
const PROBE_AGAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Registrar {
    pub(super) fn is_closed(&self) -> bool {
        *self.subscriptions.state().borrow() == LinkState::Closed
    }

    /// Probes from each message link after one of them has moved; whether any is on another server
    /// than `connection`, where something may have been missed meanwhile.
    pub(super) async fn probe_again(&self, connection: &Connection) -> bool {
        let deadline = Instant::now() + PROBE_AGAIN_TIMEOUT;
        let mut elsewhere = false;
        for link in &self.messages {
            let other =
                |from: &Arc<Connection>| from.server().server_id != connection.server().server_id;
            elsewhere |= link.now().as_ref().is_some_and(other);
            // What cannot be probed is announced all the same.
            let _announced = probe_from(link, connection, deadline).await;
        }
        elsewhere
    }
}

/// Subscribes on `connection` and waits until its server has it.
///
/// It takes as long as it takes even where nobody waits any more: a denial that nobody asked about
/// would stay behind.
pub(super) async fn subscribe(
    topic: &Topic,
    connection: &Connection,
    registrar: &Registrar,
    deadline: Instant,
) -> Result<Subscribed, Failure> {
    let one_of_few = topic.unless_abandoned(connection.registering.acquire());
    let Some(permit) = one_of_few.await else {
        return Err(Failure::Disconnected);
    };
    let subscribed = subscribe_once(topic, connection, deadline).await;
    drop(permit);
    match subscribed {
        Err(Failure::SubscriptionLimit) => {
            // The error names nobody. Alone, it can only be ours.
            let _alone = registrar.alone.lock().await;
            subscribe_once(topic, connection, deadline).await
        }
        subscribed => subscribed,
    }
}

/// Waits until all our links see what was subscribed before.
pub(super) async fn probe(
    connection: &Connection,
    registrar: &Registrar,
    deadline: Instant,
) -> Result<(), Failure> {
    for link in &registrar.messages {
        probe_from(link, connection, deadline).await?;
    }
    Ok(())
}

async fn subscribe_once(
    topic: &Topic,
    connection: &Connection,
    deadline: Instant,
) -> Result<Subscribed, Failure> {
    let mut limits = connection.signals.subscription_limit.subscribe();
    limits.mark_unchanged();
    let events = connection.signals.fences.events();
    let subscribed = connection
        .subscribe(topic.pattern.clone(), topic.queue.clone())
        .await?;
    connection.settle(events, deadline).await?;
    if connection
        .signals
        .refusals
        .take_since(events, &topic.refusal)
    {
        return Err(Failure::PermissionDenied);
    }
    if limits.has_changed().unwrap_or(false) {
        return Err(Failure::SubscriptionLimit);
    }
    Ok(subscribed)
}

/// Sends probes over `link` until one has come back on `connection`.
async fn probe_from(
    link: &Link,
    connection: &Connection,
    deadline: Instant,
) -> Result<(), Failure> {
    // A link that is away publishes nothing that could be missed; when it is back, it is probed again.
    let Some(from) = link.now() else {
        return Ok(());
    };
    if from.server().server_id == connection.server().server_id || !connection.rights.can_fence() {
        return Ok(());
    }
    let subject = connection.probe_subject();
    let mut probes = connection.subscribe(subject.clone(), None).await?.0;
    let mut again = PROBE_AGAIN;
    let sending = async {
        loop {
            let call = Call {
                deadline,
                wait: false,
            };
            match link
                .publish(
                    Outbound::new(subject.clone(), Bytes::new()),
                    Confirm::Accepted,
                    call,
                )
                .await
            {
                Ok(()) | Err(Failure::BufferFull) => {}
                Err(failure) => return failure,
            }
            sleep(again).await;
            again = (again * 2).min(PROBE_AGAIN_MAX);
        }
    };
    let arrived = async {
        tokio::select! {
            biased;
            probe = probes.next() => probe.map(drop).ok_or(Failure::Lost),
            // The link went away: it counts as one that is not there.
            _failure = sending => Ok(()),
        }
    };
    timeout_at(deadline, arrived)
        .await
        .unwrap_or(Err(Failure::Timeout))
}
