//! The tasks beside the sender that work for one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Duration, Instant, MissedTickBehavior};

use super::connection::Connection;
use super::queue::Entry;
use super::ticket::Ticket;

/// How often late fences are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long no fence may come back while other things do. One of so many late ones would.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps an eye on a connection: fences that do not come back while nothing else comes either mean
/// that nobody is there.
pub(super) async fn watch(connection: Arc<Connection>, interval: Duration) {
    let statistics = connection.client.statistics();
    let received = || statistics.in_bytes.load(Ordering::Relaxed);
    let mut before = received();
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = connection.signals.closed.cancelled() => return,
            _ = ticks.tick() => {}
            () = late_fence(&connection) => {
                send_fence(&connection);
                continue;
            }
        }
        connection.signals.doubt_losses();
        let silent = std::mem::replace(&mut before, received()) == before;
        let age = connection.signals.fences.oldest_age().unwrap_or_default();
        let epoch = connection.epoch;
        if silent && age > interval {
            tracing::warn!(epoch, "no sign of life from the NATS server");
            return connection.close();
        }
        if age > interval.max(ECHO_TIMEOUT) {
            tracing::warn!(epoch, "the NATS server confirms nothing any more");
            return connection.close();
        }
        // Here, too: where ticks come sooner than looks, these never come.
        connection.signals.fences.look_for_late();
        send_fence(&connection);
    }
}

/// Waits until a fence is late.
async fn late_fence(connection: &Connection) {
    loop {
        tokio::time::sleep(LOOK).await;
        if connection.signals.fences.look_for_late() {
            return;
        }
    }
}

fn send_fence(connection: &Connection) {
    // Where there is no room the sender needs something that waits, to look whether a fence may go alone.
    let has_room = connection.signals.fences.has_room() || connection.queue.depth().0 == 0;
    if connection.rights.can_fence() && has_room {
        // A full queue has fences of its own.
        let _full = connection.queue.push(Entry::fence(Ticket::new()));
    }
}
