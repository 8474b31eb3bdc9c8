//! When a subscription counts as live.
//!
//! The server handles one connection's commands in order, so a fence behind a SUB proves that its
//! server has it. Another server of the cluster learns of it a moment later; a message that one of
//! our own links publishes there in the meantime would be lost. So, where a link is connected to
//! another server, it sends probes to an inbox that was subscribed after the subject: interest
//! travels in order, and when a probe arrives the subject's interest has arrived there, too.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout_at};

use super::topic::Topic;
use crate::nats::connection::Connection;
use crate::nats::link::{Call, Confirm, Link, LinkState};
use crate::nats::{Failure, Outbound};

/// How soon a lost probe is followed by another; doubled each time.
const PROBE_AGAIN: Duration = Duration::from_millis(2);
/// The longest wait between two probes.
const PROBE_AGAIN_MAX: Duration = Duration::from_millis(100);

/// The links that a subscription has to do with.
#[derive(Debug)]
pub(super) struct Registrar {
    pub(super) subscriptions: Arc<Link>,
    pub(super) messages: Vec<Arc<Link>>,
}

impl Registrar {
    pub(super) fn is_closed(&self) -> bool {
        *self.subscriptions.state().borrow() == LinkState::Closed
    }
}

/// Subscribes on `connection` and waits until all our links see it.
pub(super) async fn register(
    topic: &Topic,
    connection: &Arc<Connection>,
    registrar: &Registrar,
    deadline: Instant,
) -> Result<(u64, Subscriber), Failure> {
    let mut limits = connection.signals.subscription_limit.subscribe();
    limits.mark_unchanged();
    let (sid, subscriber) = connection
        .subscribe(topic.pattern.clone(), topic.queue.clone())
        .await?;
    connection.settle(deadline).await?;
    if connection.signals.take_refused(&topic.pattern) {
        return Err(Failure::PermissionDenied);
    }
    if limits.has_changed().unwrap_or(false) {
        return Err(Failure::SubscriptionLimit);
    }
    for link in &registrar.messages {
        probe_from(link, connection, deadline).await?;
    }
    Ok((sid, subscriber))
}

/// Sends probes over `link` until one has come back on `connection`.
async fn probe_from(
    link: &Link,
    connection: &Connection,
    deadline: Instant,
) -> Result<(), Failure> {
    // A link that is away publishes nothing that could be missed; it is on a server that knows us
    // by the time it is back, or its publishers race with the cluster like anybody else's.
    let Some(from) = link.now() else {
        return Ok(());
    };
    if from.server().server_id == connection.server().server_id || !connection.rights.can_fence() {
        return Ok(());
    }
    let subject = connection.probe_subject();
    let (_, mut probes) = connection.subscribe(subject.clone(), None).await?;
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
