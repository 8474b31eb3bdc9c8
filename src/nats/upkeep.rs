//! The tasks beside the sender that work for one connection.

use std::sync::Arc;

use async_nats::Subscriber;
use tokio::time::{Duration, Instant, MissedTickBehavior};

use super::connection::Connection;
use super::queue::{Entry, Load, Settle};
use super::ticket::Ticket;

/// Reads the inbox until the connection is closed.
pub(super) async fn read_inbox(connection: Arc<Connection>, mut inbox: Subscriber) {
    loop {
        tokio::select! {
            biased;
            () = connection.signals.closed.cancelled() => return,
            message = futures_util::StreamExt::next(&mut inbox) => match message {
                Some(message) => connection.signals.replies.deliver(message),
                // The library's task is gone, be it by a malformed header or at its own end.
                None => return connection.close(),
            }
        }
    }
}

/// Keeps an eye on a connection: a fence that does not come back means that nobody is there.
pub(super) async fn watch(connection: Arc<Connection>, interval: Duration) {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = connection.signals.closed.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let overdue = connection
            .signals
            .fences
            .oldest_age()
            .is_some_and(|age| age > interval.saturating_mul(2));
        if overdue {
            tracing::warn!(
                epoch = connection.epoch,
                "no sign of life from the NATS server"
            );
            return connection.close();
        }
        if connection.rights.can_fence() && connection.signals.fences.under_way() == 0 {
            let ticket = Ticket::new();
            let load = Load::Many(Vec::new());
            let entry = Entry {
                load,
                reply: None,
                ticket: Some(ticket),
                settle: Settle::Fence,
            };
            // A full queue has fences of its own.
            let _full = connection.queue.push(entry);
        }
    }
}
