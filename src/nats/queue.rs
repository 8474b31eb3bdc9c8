//! The bounded queue between callers and the sender of one connection.

use std::iter::Chain;
use std::sync::Arc;
use std::{option, vec};

use async_nats::Subject;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::ticket::Ticket;
use super::{Failure, Outbound, Refused};

/// What an entry counts beside its bytes, so that empty messages are bounded in bytes, too.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The bytes that a message counts in a queue.
#[must_use]
pub fn bytes_in_queue(message: &Outbound) -> usize {
    message.wire_bytes() + ENTRY_OVERHEAD_BYTES
}

/// One message, or a run of them that shares a fate.
#[derive(Debug)]
pub(super) enum Load {
    One(Outbound),
    Many(Vec<Outbound>),
}

impl Load {
    fn bytes(&self) -> usize {
        self.messages().iter().map(bytes_in_queue).sum()
    }

    /// The message, where it is a single one.
    fn into_one(self) -> Option<Outbound> {
        match self {
            Self::One(message) => Some(message),
            Self::Many(_) => None,
        }
    }

    pub(super) fn messages(&self) -> &[Outbound] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Many(messages) => messages,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            // A fence alone counts, too.
            Self::Many(messages) => messages.len().max(1),
        }
    }
}

impl IntoIterator for Load {
    type Item = Outbound;
    type IntoIter = Chain<option::IntoIter<Outbound>, vec::IntoIter<Outbound>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::One(message) => (Some(message), Vec::new()),
            Self::Many(messages) => (None, messages),
        };
        one.into_iter().chain(many)
    }
}

/// What waits to be sent.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) load: Load,
    /// What the load counts.
    bytes: usize,
    /// Where a reply to a single message goes to.
    pub(super) reply: Option<Subject>,
    /// None: nobody waits (`confirm=none`).
    pub(super) ticket: Option<Arc<Ticket>>,
    /// Whether a fence settles the ticket; else a reply does, or the hand-over itself.
    pub(super) settle: Settle,
}

impl Entry {
    pub(super) fn new(load: Load, ticket: Option<Arc<Ticket>>, settle: Settle) -> Self {
        let bytes = load.bytes();
        Self {
            load,
            bytes,
            reply: None,
            ticket,
            settle,
        }
    }

    /// A single message whose reply goes to a subject.
    pub(super) fn with_reply(mut self, reply: Subject) -> Self {
        self.reply = Some(reply);
        self
    }

    /// Nothing but a fence, which settles the ticket.
    pub(super) fn fence(ticket: Arc<Ticket>) -> Self {
        Self::new(Load::Many(Vec::new()), Some(ticket), Settle::Fence)
    }
}

/// What settles a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// The fence behind the message.
    Fence,
    /// A reply, by way of the inbox.
    Reply,
    /// That it was flushed to the socket.
    Flush,
}

/// The limits of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Messages that may wait.
    pub messages: usize,
    /// Bytes that may wait.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: std::collections::VecDeque<Entry>,
    messages: usize,
    bytes: usize,
    closed: bool,
}

/// The queue. Callers push, one sender takes.
#[derive(Debug)]
pub(super) struct SendQueue {
    state: Mutex<State>,
    limits: QueueLimits,
    readable: Notify,
}

impl SendQueue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            state: Mutex::default(),
            limits,
            readable: Notify::new(),
        }
    }

    /// Puts an entry at the end, or says at once why not. An entry alone always fits, so that a
    /// message as large as the server allows can be sent whatever the limit. A closed queue hands a
    /// single message back: another connection may take it.
    pub(super) fn push(&self, entry: Entry) -> Result<(), Refused> {
        match self.admit(entry.load.len(), entry.bytes) {
            Ok(state) => {
                self.push_admitted(state, entry);
                Ok(())
            }
            Err(Failure::Disconnected) => Err(Refused::disconnected(entry.load.into_one())),
            Err(failure) => Err(failure.into()),
        }
    }

    /// As [`Self::push`], with a run that counts so many bytes; one that is not taken stays where it is.
    pub(super) fn push_run(
        &self,
        run: &mut Vec<Outbound>,
        bytes: usize,
        ticket: Arc<Ticket>,
        settle: Settle,
    ) -> Result<(), Failure> {
        let state = self.admit(run.len().max(1), bytes)?;
        let entry = Entry {
            load: Load::Many(std::mem::take(run)),
            bytes,
            reply: None,
            ticket: Some(ticket),
            settle,
        };
        self.push_admitted(state, entry);
        Ok(())
    }

    fn admit(&self, messages: usize, bytes: usize) -> Result<MutexGuard<'_, State>, Failure> {
        let state = self.state.lock();
        let full = state.messages + messages > self.limits.messages
            || state.bytes + bytes > self.limits.bytes;
        match state.closed {
            true => Err(Failure::Disconnected),
            false if full && !state.entries.is_empty() => Err(Failure::BufferFull),
            false => Ok(state),
        }
    }

    fn push_admitted(&self, mut state: MutexGuard<'_, State>, entry: Entry) {
        state.bytes += entry.bytes;
        state.messages += entry.load.len();
        let wake = state.entries.is_empty();
        state.entries.push_back(entry);
        drop(state);
        if wake {
            self.readable.notify_one();
        }
    }

    /// Waits until there is something to take.
    pub(super) async fn readable(&self) {
        while self.state.lock().entries.is_empty() {
            self.readable.notified().await;
        }
    }

    /// Takes entries from the front into `batch` until it holds `bytes_max`, at least one.
    pub(super) fn take(&self, bytes_max: usize, messages_max: usize, batch: &mut Vec<Entry>) {
        let mut state = self.state.lock();
        let (mut bytes, mut messages) = (0, 0);
        while let Some(entry) = state.entries.front() {
            let (more_bytes, more) = (entry.bytes, entry.load.len());
            if !batch.is_empty()
                && (bytes + more_bytes > bytes_max || messages + more > messages_max)
            {
                break;
            }
            bytes += more_bytes;
            messages += more;
            batch.extend(state.entries.pop_front());
        }
        state.bytes -= bytes;
        state.messages -= messages;
    }

    /// Refuses everything from now on; what waits was not sent, and its callers have it back. Returns
    /// how many messages that nobody waits for go with it.
    pub(super) fn close(&self) -> usize {
        let mut state = self.state.lock();
        state.closed = true;
        state.bytes = 0;
        state.messages = 0;
        let mut unconfirmed = 0;
        // Under the lock: whoever else closes comes back only when all have theirs.
        for entry in state.entries.drain(..) {
            match entry.ticket {
                Some(ticket) => ticket.give_back(entry.load.into_one()),
                None => unconfirmed += entry.load.len(),
            }
        }
        unconfirmed
    }

    /// Whether half of it stays free when so much is added. Alone, as in [`Self::push`], it may be
    /// more.
    pub(super) fn keeps_half_free(&self, messages: usize, bytes: usize) -> bool {
        let (waiting, waiting_bytes) = self.depth();
        waiting == 0
            || (waiting + messages <= self.limits.messages / 2
                && waiting_bytes + bytes <= self.limits.bytes / 2)
    }

    /// Messages and bytes that wait.
    pub(super) fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.messages, state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(bytes: usize) -> Entry {
        let message = Outbound::new("a".into(), Bytes::from(vec![0; bytes]));
        Entry::new(Load::One(message), Some(Ticket::new()), Settle::Fence)
    }

    fn push(queue: &SendQueue, bytes: usize) -> Result<(), Failure> {
        queue.push(entry(bytes)).map_err(Failure::from)
    }

    #[test]
    fn it_is_bounded_in_messages_and_in_bytes() {
        let queue = SendQueue::new(QueueLimits {
            messages: 2,
            bytes: 1 << 20,
        });
        assert_eq!(push(&queue, 1), Ok(()));
        assert_eq!(push(&queue, 1), Ok(()));
        assert_eq!(push(&queue, 1), Err(Failure::BufferFull));
        let queue = SendQueue::new(QueueLimits {
            messages: 100,
            bytes: 1000,
        });
        assert_eq!(push(&queue, 2000), Ok(()), "alone it fits");
        assert_eq!(push(&queue, 1), Err(Failure::BufferFull));
    }

    #[test]
    fn half_of_it_can_be_kept_free() {
        let queue = SendQueue::new(QueueLimits {
            messages: 4,
            bytes: 1000,
        });
        assert!(queue.keeps_half_free(9, 9000), "alone it may be more");
        queue.push(entry(1)).unwrap();
        assert!(queue.keeps_half_free(1, 100));
        assert!(!queue.keeps_half_free(2, 100));
        assert!(!queue.keeps_half_free(1, 500));
    }

    #[test]
    fn taking_makes_room_again() {
        let queue = SendQueue::new(QueueLimits {
            messages: 4,
            bytes: 1 << 20,
        });
        for _ in 0..4 {
            queue.push(entry(10)).unwrap();
        }
        let mut batch = Vec::new();
        queue.take(1 << 16, 3, &mut batch);
        assert_eq!(batch.len(), 3);
        assert_eq!(queue.depth().0, 1);
        queue.take(1 << 16, 3, &mut Vec::new());
        assert_eq!(queue.depth(), (0, 0));
    }

    #[test]
    fn closing_tells_those_who_wait_that_nothing_was_sent() {
        let queue = SendQueue::new(QueueLimits {
            messages: 4,
            bytes: 1 << 20,
        });
        let waiting = entry(1);
        let ticket = waiting.ticket.clone().unwrap();
        queue.push(waiting).unwrap();
        queue.close();
        assert!(!ticket.hand_over());
        assert_eq!(push(&queue, 1), Err(Failure::Disconnected));
    }

    #[test]
    fn a_closed_queue_hands_back_what_it_does_not_take_and_what_it_has_not_sent() {
        let queue = SendQueue::new(QueueLimits {
            messages: 4,
            bytes: 1 << 20,
        });
        let (waiting, left) = (entry(1), entry(2));
        let (ticket, gone) = (
            waiting.ticket.clone().unwrap(),
            left.ticket.clone().unwrap(),
        );
        queue.push(waiting).unwrap();
        queue.push(left).unwrap();
        assert!(gone.withdraw());
        queue.close();
        assert_eq!(ticket.take_back().unwrap().payload.len(), 1);
        assert!(gone.take_back().is_none(), "its caller is gone");
        let refused = queue.push(entry(3)).unwrap_err();
        assert_eq!(refused.message.unwrap().payload.len(), 3);
    }
}
