//! Reads what the client library received where it fills it in, without a task of its own.
//!
//! The library's task reads up to 128 times from its socket before it makes way for others, and a task
//! woken by it runs on the same thread, afterwards. Until then tens of megabytes of large replies would
//! pile up in the inbox's channel, most of them about to be refused; and every channel of a client has the
//! same capacity, which the marker of the fences keeps full. So the waker that a channel calls for a message
//! is the reader: it takes the message out of the channel and hands it on, which is short and never blocks,
//! before the library reads on. Channels can be small then.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::task::unconstrained;

use super::Inbound;
use super::events::Signals;

/// A subscription of the library that is read until this is dropped.
pub(super) struct Reading<S, T>(Arc<Reader<S, T>>);

struct Reader<S, T> {
    /// The library keeps the waker for as long as somebody has its client, but not what is in here.
    held: Mutex<Option<(S, T)>>,
    /// Calls of the waker since it was seen to be empty; who makes the first one reads.
    calls: AtomicUsize,
}

/// Messages as they come.
pub(super) trait Messages: Stream<Item = Inbound> + Unpin + Send + 'static {}

impl<S: Stream<Item = Inbound> + Unpin + Send + 'static> Messages for S {}

/// Where they go. Nothing may block, or take long.
pub(super) trait Taker: Send + 'static {
    fn take(&self, message: Inbound);
    /// The library's task is gone, be it by a malformed header or at its own end.
    fn ended(self);
}

/// The inbox, whose messages are replies.
impl Taker for Arc<Signals> {
    fn take(&self, message: Inbound) {
        self.replies.deliver(message);
    }

    fn ended(self) {
        self.close();
    }
}

impl<S: Messages, T: Taker> Reading<S, T> {
    /// Begins with what has come already.
    pub(super) fn begin(messages: S, taker: T) -> Self {
        let reader = Arc::new(Reader {
            held: Mutex::new(Some((messages, taker))),
            calls: AtomicUsize::new(0),
        });
        Arc::clone(&reader).wake();
        Self(reader)
    }
}

impl<S, T> Drop for Reading<S, T> {
    fn drop(&mut self) {
        let ended = self.0.held.lock().take();
        // Not under the lock: it calls the library.
        drop(ended);
    }
}

impl<S: Messages, T: Taker> Wake for Reader<S, T> {
    fn wake(self: Arc<Self>) {
        if self.calls.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut seen = 1;
        loop {
            self.read(&waker);
            let emptied = self
                .calls
                .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire);
            match emptied {
                Ok(_) => return,
                Err(more) => seen = more,
            }
        }
    }
}

impl<S: Messages, T: Taker> Reader<S, T> {
    /// Reads what is there.
    fn read(&self, waker: &Waker) {
        let mut held = self.held.lock();
        let Some((messages, taker)) = held.as_mut() else {
            return;
        };
        let all = poll_fn(|cx| {
            while let Poll::Ready(next) = messages.poll_next_unpin(cx) {
                match next {
                    Some(message) => taker.take(message),
                    None => return Poll::Ready(()),
                }
            }
            Poll::Pending
        });
        // The budget is the library's, which has to read on.
        let is_over = pin!(unconstrained(all))
            .poll(&mut Context::from_waker(waker))
            .is_ready();
        if is_over && let Some((messages, taker)) = held.take() {
            drop(held);
            drop(messages);
            taker.ended();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::nats::QueueLimits;
    use crate::nats::queue::SendQueue;
    use crate::nats::replies::{ReplySlot, ReplyTable};
    use crate::nats::room::tests::Left;
    use crate::nats::ticket::Ticket;

    /// As the library does it: a channel, and the subscription at its end.
    fn channel(capacity: usize) -> (mpsc::Sender<Inbound>, impl Messages) {
        let (sender, mut receiver) = mpsc::channel(capacity);
        (sender, stream::poll_fn(move |cx| receiver.poll_recv(cx)))
    }

    pub(in crate::nats) fn signals() -> Arc<Signals> {
        let limits = QueueLimits {
            messages: 1,
            bytes: 1,
        };
        let replies = ReplyTable::new("_I.x".into(), Left::new(0));
        Signals::new(SendQueue::new(limits), replies, Arc::default())
    }

    fn reply_to(slot: &ReplySlot) -> Inbound {
        Inbound {
            subject: slot.subject(),
            ..numbered(0)
        }
    }

    /// A message that can be told from others.
    pub(in crate::nats) fn numbered(number: usize) -> Inbound {
        Inbound {
            subject: "a".into(),
            reply: None,
            payload: "hi".into(),
            headers: None,
            status: None,
            description: None,
            length: number,
        }
    }

    #[test]
    fn what_has_come_and_what_comes_is_read_by_whoever_brings_it() {
        let signals = signals();
        let (sender, messages) = channel(2);
        let tickets = [Ticket::new(), Ticket::new(), Ticket::new()];
        let slots = tickets
            .each_ref()
            .map(|of| signals.replies.expect(None, of, None));
        sender.try_send(reply_to(&slots[0])).unwrap();
        let reading = Reading::begin(messages, Arc::clone(&signals));
        assert!(tickets[0].take_reply().is_some());
        sender.try_send(reply_to(&slots[1])).unwrap();
        assert!(tickets[1].take_reply().is_some());
        drop(reading);
        assert!(sender.try_send(reply_to(&slots[2])).is_err());
    }

    #[tokio::test]
    async fn it_takes_none_of_the_time_that_the_library_may_read() {
        const MANY: usize = 1000;
        let signals = signals();
        let (sender, messages) = channel(1);
        let _reading = Reading::begin(messages, Arc::clone(&signals));
        for _ in 0..MANY {
            let ticket = Ticket::new();
            let slot = signals.replies.expect(None, &ticket, None);
            sender.try_send(reply_to(&slot)).unwrap();
            assert!(ticket.take_reply().is_some());
        }
        assert!(tokio::task::coop::has_budget_remaining());
    }

    #[test]
    fn the_end_of_the_library_is_the_end_of_the_connection() {
        let signals = signals();
        let (sender, messages) = channel(1);
        let _reading = Reading::begin(messages, Arc::clone(&signals));
        assert!(!signals.closed.is_cancelled());
        drop(sender);
        assert!(signals.closed.is_cancelled());
    }

    #[test]
    fn nothing_is_left_where_several_bring_messages_at_once() {
        const EACH: usize = 2000;
        let signals = signals();
        let (sender, messages) = channel(4 * EACH);
        let slot_of = |_| {
            let ticket = Ticket::new();
            let slot = signals.replies.expect(None, &ticket, None);
            (ticket, slot)
        };
        let expected: Vec<_> = (0..4 * EACH).map(slot_of).collect();
        let mut reading = None;
        std::thread::scope(|scope| {
            for part in expected.chunks(EACH) {
                let sender = sender.clone();
                scope.spawn(move || {
                    for (_, slot) in part {
                        sender.try_send(reply_to(slot)).unwrap();
                    }
                });
            }
            reading = Some(Reading::begin(messages, Arc::clone(&signals)));
        });
        for (ticket, _slot) in &expected {
            assert!(ticket.take_reply().is_some());
        }
    }
}
