//! What async-nats tells about a connection besides messages.
//!
//! Its events come one after the other through one channel, in the order in which they happened on
//! the wire. Nothing here waits: the channel holds 128 events and drops the rest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_nats::{Event, ServerError, Subject};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::fence::Fences;
use super::queue::SendQueue;
use super::refusals::{Reading, Refusal, Refusals};
use super::replies::ReplyTable;
use super::stats::LinkStats;
use super::ticket::Verdict;

/// From so many between two looks on, the channel may have dropped some.
const CROWDED: u64 = 64;

/// The inbox has the id 1; the library counts up from there.
const FIRST_MARKER_SID: u64 = 2;

/// Where a connection's events go.
#[derive(Debug)]
pub(super) struct Signals {
    /// The connection is over; it never comes back.
    pub(super) closed: CancellationToken,
    /// The server is about to leave.
    pub(super) lame_duck: CancellationToken,
    pub(super) queue: Arc<SendQueue>,
    pub(super) fences: Fences,
    pub(super) replies: Arc<ReplyTable>,
    pub(super) stats: Arc<LinkStats>,
    /// The subjects of the markers, which were subscribed in this order right after the inbox.
    pub(super) markers: OnceLock<[Subject; 2]>,
    /// Counts the markers' events, for arming them.
    pub(super) marker_events: watch::Sender<u64>,
    /// The server could deny messages that we believe are allowed.
    pub(super) uncertain: AtomicBool,
    /// What the server refused.
    pub(super) refusals: Refusals,
    /// The account allows no more subscriptions.
    pub(super) subscription_limit: watch::Sender<u64>,
    /// Bumped after each refusal.
    pub(super) changed: watch::Sender<u64>,
    alarms: Mutex<HashMap<u64, Arc<Alarm>>>,
    losses: AtomicU64,
    taken_away: AtomicU64,
}

/// Rings when something happened to a subscription that its messages do not tell.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    lossy: AtomicBool,
    taken_away: AtomicBool,
    notify: Notify,
}

impl Alarm {
    fn ring(&self) {
        self.lossy.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    fn take_away(&self) {
        self.taken_away.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Whether messages were lost because nobody read them fast enough, since it was last asked.
    pub(super) fn has_lost(&self) -> bool {
        self.lossy.load(Ordering::Acquire) && self.lossy.swap(false, Ordering::AcqRel)
    }

    /// Whether the server has taken the subscription away.
    pub(super) fn is_taken_away(&self) -> bool {
        self.taken_away.load(Ordering::Acquire)
    }

    /// Waits until it rings.
    pub(super) async fn rings(&self) {
        self.notify.notified().await;
    }
}

/// The alarm of a subscription, for as long as somebody holds it.
#[derive(Debug)]
pub(super) struct Watched {
    signals: Arc<Signals>,
    sid: u64,
    pub(super) alarm: Arc<Alarm>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.signals.alarms.lock().remove(&self.sid);
    }
}

impl Signals {
    pub(super) fn new(
        queue: SendQueue,
        replies: Arc<ReplyTable>,
        stats: Arc<LinkStats>,
    ) -> Arc<Self> {
        Arc::new(Self {
            closed: CancellationToken::new(),
            lame_duck: CancellationToken::new(),
            queue: Arc::new(queue),
            fences: Fences::default(),
            replies,
            stats,
            markers: OnceLock::new(),
            marker_events: watch::Sender::new(0),
            uncertain: AtomicBool::new(false),
            refusals: Refusals::default(),
            subscription_limit: watch::Sender::new(0),
            changed: watch::Sender::new(0),
            alarms: Mutex::default(),
            losses: AtomicU64::new(0),
            taken_away: AtomicU64::new(0),
        })
    }

    /// Ends the connection for everybody who uses it.
    pub(super) fn close(&self) {
        self.closed.cancel();
        // First the queue: what it still holds goes back to its callers, who may send it elsewhere.
        let unconfirmed = self.queue.close() as u64;
        self.stats
            .lost_unconfirmed
            .fetch_add(unconfirmed, Ordering::Relaxed);
        self.fences.fail_all();
        self.replies.fail_all();
    }

    /// Takes one event.
    pub(super) fn on(&self, event: Event) {
        self.fences.count_event();
        match event {
            Event::SlowConsumer(sid) => match self.marker_of(sid) {
                Some(marker) => self.on_marker(marker),
                None => {
                    self.losses.fetch_add(1, Ordering::Relaxed);
                    self.tell_loss(sid);
                }
            },
            Event::ServerError(ServerError::Other(text)) => self.on_error(&text),
            Event::ServerError(_) | Event::Disconnected | Event::Closed | Event::ClientError(_) => {
                self.close()
            }
            Event::LameDuckMode => self.lame_duck.cancel(),
            Event::Connected | Event::Draining => {}
        }
    }

    /// Which marker has the subscription id `sid`.
    fn marker_of(&self, sid: u64) -> Option<usize> {
        let marker = usize::try_from(sid.checked_sub(FIRST_MARKER_SID)?).ok()?;
        (marker < self.markers.get()?.len()).then_some(marker)
    }

    fn on_marker(&self, marker: usize) {
        if !self.fences.is_armed() {
            self.marker_events.send_modify(|count| *count += 1);
        } else if let Some(round_trip) = self.fences.came_back(marker) {
            self.stats.set_round_trip(round_trip);
        }
    }

    /// A message to `sid` was lost because nobody took those before it.
    pub(super) fn tell_loss(&self, sid: u64) {
        self.stats.slow_consumers.fetch_add(1, Ordering::Relaxed);
        if let Some(alarm) = self.alarms.lock().get(&sid) {
            alarm.ring();
        }
    }

    fn on_error(&self, text: &str) {
        match Refusal::read(text) {
            Reading::Refused(refusal) => self.on_refusal(refusal),
            Reading::TakenAway { subject, sid } => self.on_taken_away(&subject, sid),
            Reading::Unreadable => {
                tracing::warn!("a permission error that cannot be made out ends the connection");
                self.close();
            }
            Reading::Other
                if text
                    .to_ascii_lowercase()
                    .contains("maximum subscriptions exceeded") =>
            {
                self.subscription_limit.send_modify(|count| *count += 1);
            }
            // Every other error is followed by the server closing the connection.
            Reading::Other => {
                tracing::warn!(error = kind_of(text), "the NATS server reports an error");
                self.stats.server_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn on_refusal(&self, refusal: Refusal) {
        self.stats.permission_errors.fetch_add(1, Ordering::Relaxed);
        if let Refusal::Publish(subject) = &refusal {
            if self.is_marker(subject) {
                tracing::warn!(
                    "the NATS server denies what it allowed; the connection is made anew"
                );
                return self.close();
            }
            self.on_denial(subject);
        }
        // Only what somebody asks about is kept: a subscription, or a probe of ours.
        let asked_about = match &refusal {
            Refusal::Publish(subject) => self.replies.is_below_inbox(subject),
            Refusal::Subscription(..) => true,
        };
        if asked_about && !self.refusals.add(refusal, self.fences.events()) {
            return self.close();
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn is_marker(&self, subject: &str) -> bool {
        let markers = self.markers.get();
        markers.is_some_and(|markers| markers.iter().any(|of| of.as_str() == subject))
    }

    fn on_denial(&self, subject: &str) {
        // Else what the server told at the connect is not true any more.
        let asked_for = self.replies.is_below_inbox(subject);
        let surprise = !asked_for && !self.uncertain.swap(true, Ordering::AcqRel);
        let waiting = || self.fences.waiting_for(subject) + self.replies.waiting_for(subject);
        // The rules have just been changed: of several, some may have gone before that.
        let verdict = match surprise && waiting() > 1 {
            true => Verdict::Lost,
            false => Verdict::Denied,
        };
        self.fences.deny(subject, verdict);
        self.replies.deny(subject, verdict);
    }

    /// The server's rules were changed, and with them a subscription ended.
    fn on_taken_away(&self, subject: &str, sid: u64) {
        self.stats.permission_errors.fetch_add(1, Ordering::Relaxed);
        let count = self.taken_away.fetch_add(1, Ordering::Relaxed) + 1;
        // Without its inbox it is no use; and of a crowd, some may not have been told.
        if count >= CROWDED || self.replies.is_below_inbox(subject) {
            tracing::warn!("the NATS server takes subscriptions away; the connection is made anew");
            return self.close();
        }
        if let Some(alarm) = self.alarms.lock().get(&sid) {
            alarm.take_away();
        }
    }

    /// Wants to know what happens to the subscription `sid`.
    pub(super) fn watch(self: &Arc<Self>, sid: u64) -> Watched {
        let alarm = Arc::clone(self.alarms.lock().entry(sid).or_default());
        Watched {
            signals: Arc::clone(self),
            sid,
            alarm,
        }
    }

    /// Rings every alarm if there were so many events of losses that some may have been dropped.
    pub(super) fn doubt_losses(&self) {
        self.taken_away.store(0, Ordering::Relaxed);
        if self.losses.swap(0, Ordering::Relaxed) >= CROWDED {
            self.alarms.lock().values().for_each(|alarm| alarm.ring());
        }
    }
}

/// What an error of the server is about. Its text may name a subject, and so is not logged.
fn kind_of(text: &str) -> &'static str {
    const KINDS: [&str; 13] = [
        "authentication expired",
        "authentication revoked",
        "authentication timeout",
        "authorization violation",
        "invalid client protocol",
        "maximum connections exceeded",
        "maximum control line exceeded",
        "maximum payload violation",
        "parser error",
        "protocol operation",
        "slow consumer",
        "stale connection",
        "tls required",
    ];
    let text = text.to_ascii_lowercase();
    let known = KINDS.into_iter().find(|kind| text.contains(kind));
    known.unwrap_or("another")
}

#[cfg(test)]
mod tests;
