//! What one client of a subscription reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::delivery::Delivery;
use super::ring::{Buffer, Found, Slot};
use super::topic::{Status, Topic};

/// Why messages may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// This client reads too slowly.
    SlowClient,
    /// NATS was away for a while.
    Reconnected,
    /// natsway itself could not keep up with NATS.
    Overloaded,
}

impl GapReason {
    /// The word in the notice.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowClient => "slow-client",
            Self::Reconnected => "reconnected",
            Self::Overloaded => "overloaded",
        }
    }
}

/// What comes out of a subscription.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message.
    Message(Arc<Delivery>),
    /// Messages are missing here; how many, if that is known.
    Gap {
        /// How many were lost; none where nobody can know.
        dropped: Option<u64>,
        /// Why.
        reason: GapReason,
    },
    /// NATS denies the subscription from now on; nothing follows.
    PermissionDenied,
}

/// How many messages a reader takes out of the ring at once: enough to fill a write.
const TAKE_MAX: usize = 64;
/// And how many bytes: what was taken is not counted in the ring any more, and a reader that stops
/// reading holds it.
const TAKE_BYTES: usize = 16 * 1024;

/// One reader of a subject. Dropping it leaves; the last to leave ends the NATS subscription.
#[derive(Debug)]
pub struct Reader {
    topic: Arc<Topic>,
    seat: usize,
    taken: VecDeque<Event>,
}

impl Reader {
    /// The first reader of a topic that nobody else can have seen.
    pub(super) fn first(topic: Arc<Topic>) -> Self {
        let seat = topic.ring.lock().sit_first();
        Self {
            topic,
            seat,
            taken: VecDeque::new(),
        }
    }

    /// One more reader, who may lag as far behind as it asks for; none if the last one has left, since
    /// the topic ends then.
    pub(super) fn join(topic: Arc<Topic>, buffer: Buffer) -> Option<Self> {
        let mut ring = topic.ring.lock();
        let seat = ring.sit()?;
        ring.widen(buffer);
        drop(ring);
        Some(Self {
            topic,
            seat,
            taken: VecDeque::new(),
        })
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.topic.status.subscribe()
    }

    /// The next event, if there is one; else the task is woken when there is.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Event> {
        if self.taken.is_empty() {
            self.take(Some(cx));
        }
        self.give().map_or(Poll::Pending, Poll::Ready)
    }

    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        if self.taken.is_empty() {
            self.take(None);
        }
        self.give()
    }

    fn give(&mut self) -> Option<Event> {
        let event = self.taken.pop_front()?;
        if matches!(event, Event::Gap { .. }) {
            self.topic.stats.count_gap();
        }
        Some(event)
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn take(&mut self, wait: Option<&Context<'_>>) {
        let mut ring = self.topic.ring.lock();
        let mut bytes = 0;
        while self.taken.len() < TAKE_MAX && bytes < TAKE_BYTES {
            let event = match ring.next(self.seat) {
                Found::Lost(lost) => {
                    let dropped = &self.topic.stats.dropped;
                    dropped.fetch_add(lost, Ordering::Relaxed);
                    Event::Gap {
                        dropped: Some(lost),
                        reason: GapReason::SlowClient,
                    }
                }
                Found::Slot(Slot::Message(delivery)) => {
                    bytes += delivery.counted_bytes();
                    Event::Message(delivery)
                }
                Found::Slot(Slot::Gap(reason)) => Event::Gap {
                    dropped: None,
                    reason,
                },
                Found::Nothing => break,
            };
            self.taken.push_back(event);
        }
        if self.taken.is_empty() {
            if self.topic.is_denied() {
                self.taken.push_back(Event::PermissionDenied);
            } else if let Some(cx) = wait {
                ring.wait(self.seat, cx.waker());
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.topic.ring.lock().leave(self.seat) {
            self.topic.abandoned.cancel();
        }
    }
}
