//! A subscription: what has come to it and nobody has taken yet.
//!
//! On the link of subscriptions that is the library's channel, which is large there. On the others, where
//! nothing comes that was not asked for, channels are small, because the marker of the fences is as large as
//! they are; there messages are taken out by the channel's waker and kept here.
//!
//! A subject that is flooded needs the channel: its task and the library's work at the same time then, each
//! on its thread. A task that is woken by the library's, for each of the pauses in which it has caught up,
//! waits in that thread until the library makes way, and half as many messages got through.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use async_nats::Subscriber;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::task::coop::consume_budget;

use super::Inbound;
use super::events::Signals;
use super::reading::{Messages, Reading, Taker};

/// How many messages wait for their reader; the next ones are lost, and the subscription's alarm rings.
pub(super) const CAPACITY: usize = 2048;
/// Room for so many stays when all have been taken.
const KEPT: usize = 32;

/// Messages in the order they came. Ends with the connection; dropping it unsubscribes.
pub(super) struct Subscription<S = Subscriber>(Source<S>);

enum Source<S> {
    Channel(S),
    Backlog {
        backlog: Arc<Backlog>,
        _reading: Reading<S, Intake>,
    },
}

#[derive(Default)]
struct Backlog(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Inbound>,
    reader: Option<Waker>,
    is_over: bool,
}

/// Puts into the backlog what the library received.
struct Intake {
    backlog: Arc<Backlog>,
    signals: Arc<Signals>,
    sid: u64,
}

impl<S> std::fmt::Debug for Subscription<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl<S: Messages> Subscription<S> {
    /// What `messages` brings, taken out by whoever reads.
    pub(super) const fn in_channel(messages: S) -> Self {
        Self(Source::Channel(messages))
    }

    /// What `messages` brings, which has the id `sid`, taken out as it comes.
    pub(super) fn in_backlog(signals: &Arc<Signals>, sid: u64, messages: S) -> Self {
        let backlog = Arc::<Backlog>::default();
        let intake = Intake {
            backlog: Arc::clone(&backlog),
            signals: Arc::clone(signals),
            sid,
        };
        Self(Source::Backlog {
            backlog,
            _reading: Reading::begin(messages, intake),
        })
    }
}

impl Taker for Intake {
    fn take(&self, message: Inbound) {
        let reader = {
            let mut waiting = self.backlog.0.lock();
            if waiting.messages.len() >= CAPACITY {
                drop(waiting);
                return self.signals.tell_loss(self.sid);
            }
            waiting.messages.push_back(message);
            waiting.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
    }

    fn ended(self) {
        let reader = {
            let mut waiting = self.backlog.0.lock();
            waiting.is_over = true;
            waiting.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
    }
}

impl<S: Messages> Stream for Subscription<S> {
    type Item = Inbound;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Inbound>> {
        let backlog = match &mut self.0 {
            Source::Channel(messages) => return messages.poll_next_unpin(cx),
            Source::Backlog { backlog, .. } => backlog,
        };
        ready!(pin!(consume_budget()).poll(cx));
        let mut waiting = backlog.0.lock();
        if let Some(message) = waiting.messages.pop_front() {
            return Poll::Ready(Some(message));
        }
        if waiting.is_over {
            return Poll::Ready(None);
        }
        waiting.messages.shrink_to(KEPT);
        match &mut waiting.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use futures_util::{FutureExt as _, stream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::nats::reading::tests::{numbered, signals};

    const SID: u64 = 7;

    /// As the library does it: a channel, and the subscription at its end.
    fn subscribed(
        signals: &Arc<Signals>,
    ) -> (mpsc::Sender<Inbound>, Subscription<impl Messages + use<>>) {
        let (sender, mut receiver) = mpsc::channel(1);
        let messages = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        (sender, Subscription::in_backlog(signals, SID, messages))
    }

    #[test]
    fn a_small_channel_of_the_library_loses_nothing_before_the_subscription_is_full() {
        let signals = signals();
        let watched = signals.watch(SID);
        let (sender, mut subscription) = subscribed(&signals);
        for number in 0..CAPACITY {
            sender.try_send(numbered(number)).unwrap();
        }
        assert!(!watched.alarm.has_lost());
        sender.try_send(numbered(CAPACITY)).unwrap();
        assert!(watched.alarm.has_lost());
        assert_eq!(signals.stats.slow_consumers.load(Ordering::Relaxed), 1);
        let other = signals.watch(SID + 1);
        (0..CAPACITY).for_each(|number| sender.try_send(numbered(number)).unwrap());
        signals.doubt_losses();
        assert!(
            !other.alarm.has_lost(),
            "it is known whose messages they were"
        );
        let next = |subscription: &mut Subscription<_>| subscription.next().now_or_never();
        for number in 0..CAPACITY {
            let message = next(&mut subscription).unwrap().unwrap();
            assert_eq!(message.length, number, "in their order");
        }
        assert!(next(&mut subscription).is_none());
    }

    #[tokio::test]
    async fn a_reader_is_woken_by_what_comes_and_by_the_end() {
        let (sender, mut subscription) = subscribed(&signals());
        let reading = tokio::spawn(async move {
            let mut numbers = Vec::new();
            while let Some(message) = subscription.next().await {
                numbers.push(message.length);
            }
            numbers
        });
        for number in 0..10 {
            tokio::task::yield_now().await;
            sender.try_send(numbered(number)).unwrap();
        }
        drop(sender);
        assert_eq!(reading.await.unwrap(), Vec::from_iter(0..10));
    }

    #[test]
    fn who_is_gone_is_unsubscribed() {
        let (sender, subscription) = subscribed(&signals());
        drop(subscription);
        assert!(sender.try_send(numbered(0)).is_err());
    }
}
