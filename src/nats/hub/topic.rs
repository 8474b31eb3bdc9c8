//! One NATS subscription for all readers of a subject, kept up over connections.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use async_nats::Subject;
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
use crate::nats::subscription::Subscription;
use crate::nats::{Call, Failure, Inbound};
use crate::subject::SubjectPattern;

/// How many messages are taken from NATS before readers are woken.
const PUMP_CHUNK: usize = 128;
/// How long one attempt to register may take; it is tried again while readers wait.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a subscription that the account has no room for is tried again.
const LIMIT_AGAIN: Duration = Duration::from_secs(1);

/// How soon anything else is tried again.
const AGAIN: Duration = Duration::from_millis(20);

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
    /// Gaps that readers were told of, each of them.
    pub gaps: AtomicU64,
    /// Messages received for readers.
    pub received: AtomicU64,
}

impl HubStats {
    /// A reader is told of a gap.
    pub fn count_gap(&self) {
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
        self.deliver([Slot::Gap(reason)]);
    }

    /// What comes out of `work`, unless nobody reads any more.
    pub(super) async fn unless_abandoned<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.abandoned.cancelled() => None,
            done = work => Some(done),
        }
    }

    fn fail(&self, failure: Failure) {
        self.status.send_replace(Status::Failed(failure));
        self.deliver([]);
    }
}

/// Subscribes, delivers and subscribes again, until nobody reads or NATS denies it.
pub(super) async fn run(topic: Arc<Topic>, registrar: Arc<Registrar>) {
    let _ended = keep_up(&topic, &registrar).await;
    // Late joiners see that they came too late, and make a topic of their own.
    topic.status.send_if_modified(|status| {
        let open = !matches!(status, Status::Failed(_));
        if open {
            *status = Status::Failed(Failure::Disconnected);
        }
        open
    });
}

/// None where it ends because nobody reads any more.
async fn keep_up(topic: &Topic, registrar: &Registrar) -> Option<()> {
    let mut was_live = false;
    loop {
        let call = Call {
            deadline: Instant::now() + REGISTER_TIMEOUT,
            wait: true,
        };
        let connection = registrar.subscriptions.connection(call);
        let Ok(connection) = topic.unless_abandoned(connection).await? else {
            if registrar.is_closed() {
                topic.fail(Failure::Disconnected);
                return Some(());
            }
            continue;
        };
        let again = match live(topic, &connection, registrar, call.deadline, &mut was_live).await {
            Ok(()) => {
                topic.status.send_replace(Status::Pending);
                continue;
            }
            Err(failure @ Failure::PermissionDenied) => {
                topic.fail(failure);
                return Some(());
            }
            Err(failure @ Failure::SubscriptionLimit) if !was_live => {
                topic.fail(failure);
                return Some(());
            }
            // Readers of a subscription that once was there wait for a place, as they wait for NATS.
            Err(Failure::SubscriptionLimit) => LIMIT_AGAIN,
            // The connection broke, or a link was away: again, but not in a hot loop.
            Err(_) => AGAIN,
        };
        topic.unless_abandoned(sleep(again)).await?;
    }
}

/// The life of the subscription on one connection; it ends well with the connection.
async fn live(
    topic: &Topic,
    connection: &Connection,
    registrar: &Registrar,
    deadline: Instant,
    was_live: &mut bool,
) -> Result<(), Failure> {
    // A link that moves after it was probed has to be probed again.
    let mut moves = registrar.moves.subscribe();
    let (mut subscriber, watched) =
        register::subscribe(topic, connection, registrar, deadline).await?;
    let probed = register::probe(connection, registrar, deadline);
    topic
        .unless_abandoned(probed)
        .await
        .unwrap_or(Err(Failure::Disconnected))?;
    if std::mem::replace(was_live, true) {
        topic.gap(GapReason::Reconnected);
    }
    topic.status.send_replace(Status::Live(connection.epoch()));
    let pump = pump(
        topic,
        connection,
        registrar,
        &watched.alarm,
        &mut moves,
        &mut subscriber,
    );
    topic.unless_abandoned(pump).await.unwrap_or(Ok(()))
}

/// Delivers until the connection is gone or the subscription is taken away.
async fn pump(
    topic: &Topic,
    connection: &Connection,
    registrar: &Registrar,
    alarm: &Alarm,
    moves: &mut watch::Receiver<u64>,
    subscriber: &mut Subscription,
) -> Result<(), Failure> {
    let mut chunks = subscriber.by_ref().ready_chunks(PUMP_CHUNK);
    let mut probing = pin!(OptionFuture::from(None));
    loop {
        tokio::select! {
            biased;
            chunk = chunks.next() => match chunk {
                Some(messages) => if !receive(topic, messages) {
                    tracing::warn!(
                        "a message came to a subscription that it was not for: its subject holds white \
                         space, which leads the client library astray; the connection is made anew"
                    );
                    connection.close();
                    return Ok(());
                },
                None => return Ok(()),
            },
            () = alarm.rings() => {}
            moved = moves.changed() => if moved.is_ok() {
                probing.set(OptionFuture::from(Some(registrar.probe_again(connection))));
            },
            Some(another_server) = &mut probing => {
                probing.set(OptionFuture::from(None));
                if another_server {
                    topic.gap(GapReason::Reconnected);
                }
            }
            () = connection.signals.closed.cancelled() => return Ok(()),
        }
        // Looked at after every chunk: a flood must not hide what it makes us lose.
        if alarm.has_lost() {
            topic.gap(GapReason::Overloaded);
        }
        if alarm.is_taken_away() {
            return Err(Failure::PermissionDenied);
        }
    }
}

/// Says false where a message was not for this subscription.
fn receive(topic: &Topic, mut messages: Vec<Inbound>) -> bool {
    let came = messages.len();
    messages.retain(|message| !is_astray(topic, message));
    let received = messages.len();
    topic
        .stats
        .received
        .fetch_add(received as u64, Ordering::Relaxed);
    topic.deliver(
        messages
            .into_iter()
            .map(|message| Slot::Message(Arc::new(Delivery::new(message)))),
    );
    received == came
}

/// The client library splits the line of a message with headers at any Unicode white space, and the server
/// takes all but blanks and line breaks for a subject. So a publisher who writes `n.x`, a vertical tab and
/// a number reaches the subscription with that number, whatever he may publish to; the real number is taken
/// for the reply. Whoever should have had the message is told of the gap when the connection is made anew.
fn is_astray(topic: &Topic, message: &Inbound) -> bool {
    let is_number = |reply: &Subject| reply.bytes().all(|byte| byte.is_ascii_digit());
    message.reply.as_ref().is_some_and(is_number)
        && !SubjectPattern::parse(&topic.pattern)
            .is_ok_and(|pattern| pattern.matches(&message.subject))
}
