//! One NATS subscription for all readers of a subject, kept up over connections.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use async_nats::{Subject, Subscriber};
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::reader::GapReason;
use super::register::{self, Registrar};
use super::ring::{Ring, Slot};
use crate::nats::connection::Connection;
use crate::nats::events::Alarm;
use crate::nats::refusals::Refusal;
use crate::nats::{Call, Failure, Inbound};

/// How many messages are taken from NATS before readers are woken.
const PUMP_CHUNK: usize = 128;
/// How long one attempt to register may take; it is tried again while readers wait.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a subscription that the account has no room for is tried again.
const LIMIT_AGAIN: Duration = Duration::from_secs(1);

/// Where a topic stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not (or not any more) subscribed.
    Pending,
    /// Subscribed on the connection with this number, seen by all our links.
    Live(u64),
    /// It will not be; nobody may join.
    Failed(Failure),
}

/// Counters of all subscriptions.
#[derive(Debug, Default)]
pub struct HubStats {
    /// Messages that slow readers lost.
    pub dropped: AtomicU64,
    /// Gaps announced.
    pub gaps: AtomicU64,
    /// Messages received for readers.
    pub received: AtomicU64,
}

impl HubStats {
    pub(super) fn count_dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }
}

/// A subject that somebody reads.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) pattern: Subject,
    pub(super) queue: Option<String>,
    pub(super) ring: Mutex<Ring>,
    pub(super) status: watch::Sender<Status>,
    pub(super) stats: Arc<HubStats>,
    /// How the server would refuse it.
    pub(super) refusal: Refusal,
    /// Nobody reads any more.
    pub(super) abandoned: CancellationToken,
}

impl Topic {
    pub(super) fn new(
        pattern: Subject,
        queue: Option<String>,
        ring: Ring,
        stats: Arc<HubStats>,
    ) -> Arc<Self> {
        let (status, abandoned) = (
            watch::Sender::new(Status::Pending),
            CancellationToken::new(),
        );
        Arc::new(Self {
            refusal: Refusal::Subscription(pattern.to_string(), queue.clone()),
            pattern,
            queue,
            ring: Mutex::new(ring),
            status,
            stats,
            abandoned,
        })
    }

    pub(super) fn is_denied(&self) -> bool {
        *self.status.borrow() == Status::Failed(Failure::PermissionDenied)
    }

    /// Puts messages into the ring and wakes who waits.
    fn deliver(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut wakers: Vec<Waker> = Vec::new();
        {
            let mut ring = self.ring.lock();
            slots.into_iter().for_each(|slot| ring.push(slot));
            ring.take_wakers(&mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn gap(&self, reason: GapReason) {
        self.stats.gaps.fetch_add(1, Ordering::Relaxed);
        self.deliver([Slot::Gap(reason)]);
    }

    fn fail(&self, failure: Failure) {
        self.status.send_replace(Status::Failed(failure));
        self.deliver([]);
    }
}

/// Subscribes, delivers and subscribes again, until nobody reads or NATS denies it.
pub(super) async fn run(topic: Arc<Topic>, registrar: Arc<Registrar>) {
    let abandoned = topic.abandoned.clone();
    tokio::select! {
        biased;
        () = abandoned.cancelled() => {}
        () = keep_up(&topic, &registrar) => {}
    }
    // Late joiners see that they came too late, and make a topic of their own.
    topic.status.send_if_modified(|status| {
        let open = !matches!(status, Status::Failed(_));
        if open {
            *status = Status::Failed(Failure::Disconnected);
        }
        open
    });
}

async fn keep_up(topic: &Arc<Topic>, registrar: &Registrar) {
    let mut was_live = false;
    loop {
        let call = Call {
            deadline: Instant::now() + REGISTER_TIMEOUT,
            wait: true,
        };
        let Ok(connection) = registrar.subscriptions.connection(call).await else {
            if registrar.is_closed() {
                return topic.fail(Failure::Disconnected);
            }
            continue;
        };
        match register::register(topic, &connection, registrar, call.deadline).await {
            Ok((sid, mut subscriber)) => {
                if std::mem::replace(&mut was_live, true) {
                    topic.gap(GapReason::Reconnected);
                }
                topic.status.send_replace(Status::Live(connection.epoch()));
                let alarm = connection.signals.watch(sid);
                pump(topic, &connection, registrar, &alarm, &mut subscriber).await;
                connection.signals.forget(sid);
                if topic.is_denied() {
                    return;
                }
                topic.status.send_replace(Status::Pending);
            }
            Err(Failure::PermissionDenied) => return topic.fail(Failure::PermissionDenied),
            Err(Failure::SubscriptionLimit) if !was_live => {
                return topic.fail(Failure::SubscriptionLimit);
            }
            // Readers of a subscription that once was there wait for a place, as they wait for NATS.
            Err(Failure::SubscriptionLimit) => sleep(LIMIT_AGAIN).await,
            // The connection broke, or a link was away: again, but not in a hot loop.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Delivers until the connection is gone or the subscription is taken away.
async fn pump(
    topic: &Topic,
    connection: &Connection,
    registrar: &Registrar,
    alarm: &Alarm,
    subscriber: &mut Subscriber,
) {
    let mut changes = connection.signals.changed.subscribe();
    let mut moves = registrar.moves.subscribe();
    let mut chunks = subscriber.by_ref().ready_chunks(PUMP_CHUNK);
    let mut probing = pin!(OptionFuture::from(None));
    loop {
        tokio::select! {
            biased;
            chunk = chunks.next() => match chunk {
                Some(messages) => receive(topic, messages),
                None => return,
            },
            () = alarm.rings() => {}
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            moved = moves.changed() => if moved.is_ok() {
                probing.set(OptionFuture::from(Some(registrar.probe_again(connection))));
            },
            Some(another_server) = &mut probing => {
                probing.set(OptionFuture::from(None));
                if another_server {
                    topic.gap(GapReason::Reconnected);
                }
            }
            () = connection.signals.closed.cancelled() => return,
        }
        // Looked at after every chunk: a flood must not hide what it makes us lose.
        if alarm.take() {
            topic.gap(GapReason::Overloaded);
        }
        if connection.signals.refusals.take(&topic.refusal) {
            return topic.fail(Failure::PermissionDenied);
        }
    }
}

fn receive(topic: &Topic, messages: Vec<Inbound>) {
    topic
        .stats
        .received
        .fetch_add(messages.len() as u64, Ordering::Relaxed);
    topic.deliver(
        messages
            .into_iter()
            .map(|message| Slot::Message(Arc::new(Delivery::new(message)))),
    );
}
