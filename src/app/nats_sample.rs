//! What the links count, in the words of the metrics.

use std::sync::atomic::Ordering;

use crate::api::jetstream::replay::Replays;
use crate::nats::{Link, LinkState, Nats};
use crate::telemetry::metrics::{LinkSample, NatsSample};

/// Takes a sample of everything.
pub(super) fn take(nats: &Nats, replays: &Replays) -> NatsSample {
    let (hub, budget) = (nats.hub().stats(), nats.hub().budget());
    NatsSample {
        links: nats.links().map(|link| link_sample(link)).collect(),
        subscriptions: nats.hub().topics() as u64,
        replay_feeds: replays.feeds() as u64,
        replay_lingering: replays.lingering() as u64,
        replay_catchups: replays.catchups() as u64,
        replay_waiting: replays.waiting() as u64,
        received: hub.received.load(Ordering::Relaxed),
        dropped: hub.dropped.load(Ordering::Relaxed),
        gaps: hub.gaps.load(Ordering::Relaxed),
        held_bytes: budget.used() as u64,
        held_limit_bytes: budget.limit() as u64,
    }
}

fn link_sample(link: &Link) -> LinkSample {
    let (stats, state) = (link.stats(), *link.state().borrow());
    let (queue_messages, queue_bytes) = link.queue_depth();
    LinkSample {
        link: link.name().to_owned(),
        connected: link.now().is_some(),
        lame_duck: matches!(state, LinkState::LameDuck(_)),
        connects: stats.connects.load(Ordering::Relaxed),
        disconnects: stats.disconnects.load(Ordering::Relaxed),
        connect_failures: stats.connect_failures.load(Ordering::Relaxed),
        round_trip_seconds: stats.round_trip().as_secs_f64(),
        queue_messages: queue_messages as u64,
        queue_bytes: queue_bytes as u64,
        replies_pending: link.replies_pending() as u64,
        sent_messages: stats.sent_messages.load(Ordering::Relaxed),
        sent_bytes: stats.sent_bytes.load(Ordering::Relaxed),
        slow_consumers: stats.slow_consumers.load(Ordering::Relaxed),
        permission_errors: stats.permission_errors.load(Ordering::Relaxed),
        server_errors: stats.server_errors.load(Ordering::Relaxed),
        lost_unconfirmed: stats.lost_unconfirmed.load(Ordering::Relaxed),
    }
}
