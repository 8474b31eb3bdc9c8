//! Our own multiplexer for replies: one inbox a connection, a token a request.
//!
//! async-nats keeps an entry for each request that nobody answers for as long as its client lives.
//! Here an entry lives in the hand of its caller: it goes with the caller, whatever ends the call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{StatusCode, Subject};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::room::{NoRoom, Room, pay_for};
use super::ticket::{Ticket, Verdict};
use super::{Inbound, Reply};

#[derive(Debug)]
struct Slot {
    subject: Option<Subject>,
    ticket: Arc<Ticket>,
    many: Option<mpsc::Sender<Reply>>,
}

impl Slot {
    fn is_for(&self, subject: &str) -> bool {
        self.subject
            .as_ref()
            .is_some_and(|of| of.as_str() == subject)
    }
}

/// Who waits for which reply on one connection.
#[derive(Debug)]
pub(super) struct ReplyTable {
    prefix: String,
    next: AtomicU64,
    room: Arc<dyn Room>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_token: HashMap<u64, Slot>,
    closed: bool,
}

impl ReplyTable {
    /// A table for the inbox `<prefix>.*`, with `room` for large replies.
    pub(super) fn new(prefix: String, room: Arc<dyn Room>) -> Arc<Self> {
        Arc::new(Self {
            prefix,
            next: AtomicU64::new(1),
            room,
            slots: Mutex::default(),
        })
    }

    /// Whether a subject is one of this connection's own.
    pub(super) fn is_below_inbox(&self, subject: &str) -> bool {
        let root = self
            .prefix
            .rsplit_once('.')
            .map_or(self.prefix.as_str(), |(root, _)| root);
        subject.starts_with(root)
    }

    /// The subject to subscribe to.
    pub(super) fn wildcard(&self) -> Subject {
        Subject::from(format!("{}.*", self.prefix))
    }

    /// Expects replies to one message to `subject`. With `many` they go there, else the first
    /// settles the ticket.
    pub(super) fn expect(
        self: &Arc<Self>,
        subject: Option<Subject>,
        ticket: &Arc<Ticket>,
        many: Option<mpsc::Sender<Reply>>,
    ) -> ReplySlot {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = Slot {
            subject,
            ticket: Arc::clone(ticket),
            many,
        };
        let mut slots = self.slots.lock();
        if slots.closed {
            ticket.settle_disconnected();
        } else {
            slots.by_token.insert(token, slot);
        }
        drop(slots);
        ReplySlot {
            table: Arc::clone(self),
            token,
        }
    }

    /// Expects a message that we send to ourselves, at the slot's own subject.
    pub(super) fn expect_from_self(self: &Arc<Self>, ticket: &Arc<Ticket>) -> ReplySlot {
        let slot = self.expect(None, ticket, None);
        if let Some(own) = self.slots.lock().by_token.get_mut(&slot.token) {
            own.subject = Some(slot.subject());
        }
        slot
    }

    /// Hands a reply to whoever waits for it; a late one is dropped, and a large one that there is no
    /// room for, too.
    pub(super) fn deliver(&self, message: Inbound) {
        let Some(token) = self.token_of(&message.subject) else {
            return;
        };
        let mut slots = self.slots.lock();
        let Some(slot) = slots.by_token.get(&token) else {
            return;
        };
        if says_no_responders(&message) {
            slot.ticket.settle(Verdict::NoResponders);
            return;
        }
        let outcome = match (pay_for(&self.room, &message), &slot.many) {
            (Ok(held), None) => Ok(Reply { message, held }),
            (Ok(held), Some(replies)) => match replies.try_send(Reply { message, held }) {
                Ok(()) => return,
                Err(_) => Err(Verdict::TooMany),
            },
            (Err(NoRoom), _) => Err(Verdict::NoRoom),
        };
        // Nothing comes after that, so that what is missing is missing at the end.
        let slot = slots.by_token.remove(&token);
        drop(slots);
        match (slot, outcome) {
            (Some(slot), Ok(reply)) => slot.ticket.reply(reply),
            (Some(slot), Err(verdict)) => slot.ticket.settle(verdict),
            (None, _) => {}
        }
    }

    /// The client library can be led astray by white space in a subject: what is not below the inbox is
    /// no reply, although it came to the inbox's subscription.
    fn token_of(&self, subject: &Subject) -> Option<u64> {
        let rest = subject.strip_prefix(self.prefix.as_str())?;
        rest.strip_prefix('.')?.parse().ok()
    }

    /// The server denied a message to `subject`.
    pub(super) fn deny(&self, subject: &str, verdict: Verdict) {
        let slots = self.slots.lock();
        for slot in slots.by_token.values().filter(|slot| slot.is_for(subject)) {
            slot.ticket.settle(verdict);
        }
    }

    /// How many replies to messages to `subject` are waited for.
    pub(super) fn waiting_for(&self, subject: &str) -> usize {
        let slots = self.slots.lock();
        let waiting = slots.by_token.values();
        waiting.filter(|slot| slot.is_for(subject)).count()
    }

    /// The connection is gone: no reply will come.
    pub(super) fn fail_all(&self) {
        let slots = {
            let mut slots = self.slots.lock();
            slots.closed = true;
            std::mem::take(&mut slots.by_token)
        };
        for slot in slots.values() {
            slot.ticket.settle_disconnected();
        }
    }

    /// How many replies are waited for.
    pub(super) fn len(&self) -> usize {
        self.slots.lock().by_token.len()
    }
}

/// Whether the server says that nobody listens. A message can be stored with the same status, and then
/// comes with a subject for its ack.
fn says_no_responders(message: &Inbound) -> bool {
    let is_bare = message.payload.is_empty() && message.reply.is_none();
    is_bare && message.status == Some(StatusCode::NO_RESPONDERS)
}

/// The right to a reply. Dropping it forgets the request.
#[derive(Debug)]
pub(super) struct ReplySlot {
    table: Arc<ReplyTable>,
    token: u64,
}

impl ReplySlot {
    /// Where the reply has to go to.
    pub(super) fn subject(&self) -> Subject {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(self.token);
        let mut subject = String::with_capacity(self.table.prefix.len() + 1 + digits.len());
        subject.push_str(&self.table.prefix);
        subject.push('.');
        subject.push_str(digits);
        Subject::from(subject)
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        self.table.slots.lock().by_token.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::nats::Failure;
    use crate::nats::room::tests::Left;

    const LARGE: &str = match std::str::from_utf8(&[b'x'; 100_000]) {
        Ok(text) => text,
        Err(_) => panic!("letters"),
    };

    fn table(room: &Arc<Left>) -> Arc<ReplyTable> {
        ReplyTable::new("_I.x".into(), room.clone())
    }

    fn message(subject: Subject, status: Option<StatusCode>, payload: &'static str) -> Inbound {
        Inbound {
            subject,
            reply: None,
            payload: Bytes::from_static(payload.as_bytes()),
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    async fn outcome(ticket: &Arc<Ticket>) -> Result<(), Failure> {
        ticket
            .outcome_by(Instant::now() + Duration::from_millis(10))
            .await
    }

    #[tokio::test]
    async fn a_reply_reaches_its_request_and_no_other() {
        let table = table(&Left::new(0));
        let (mine, other) = (Ticket::new(), Ticket::new());
        let (slot, _other) = (
            table.expect(None, &mine, None),
            table.expect(None, &other, None),
        );
        table.deliver(message(slot.subject(), None, "hi"));
        assert_eq!(outcome(&mine).await, Ok(()));
        assert_eq!(mine.take_reply().unwrap().message.payload, "hi");
        assert_eq!(outcome(&other).await, Err(Failure::NotSentInTime));
    }

    #[tokio::test]
    async fn nothing_is_left_behind_by_a_caller_that_leaves() {
        let table = table(&Left::new(0));
        let slot = table.expect(None, &Ticket::new(), None);
        let subject = slot.subject();
        assert_eq!(table.len(), 1);
        drop(slot);
        assert_eq!(table.len(), 0);
        table.deliver(message(subject, None, "late"));
    }

    #[tokio::test]
    async fn what_came_to_the_inbox_by_another_subject_is_no_reply() {
        let table = table(&Left::new(0));
        let ticket = Ticket::new();
        let slot = table.expect(None, &ticket, None);
        let own = slot.subject();
        let foreign = own.replacen("_I.x", "n.ab", 1);
        assert_eq!(foreign.len(), own.len());
        table.deliver(message(foreign.into(), None, "forged"));
        assert!(ticket.take_reply().is_none());
        table.deliver(message(own, None, "hi"));
        assert_eq!(ticket.take_reply().unwrap().message.payload, "hi");
    }

    #[tokio::test]
    async fn no_responders_is_an_answer() {
        let table = table(&Left::new(0));
        let ticket = Ticket::new();
        let slot = table.expect(None, &ticket, None);
        table.deliver(message(slot.subject(), Some(StatusCode::NO_RESPONDERS), ""));
        assert_eq!(outcome(&ticket).await, Err(Failure::NoResponders));
    }

    #[tokio::test]
    async fn a_stored_message_with_that_status_is_a_message() {
        let table = table(&Left::new(0));
        let ticket = Ticket::new();
        let slot = table.expect(None, &ticket, None);
        let mut stored = message(slot.subject(), Some(StatusCode::NO_RESPONDERS), "");
        stored.reply = Some(Subject::from_static("$JS.ACK.S.c.1.1.1.1.0"));
        table.deliver(stored);
        assert_eq!(outcome(&ticket).await, Ok(()));
    }

    #[tokio::test]
    async fn a_large_reply_is_held_until_its_caller_lets_go_of_it() {
        let left = Left::new(150_000);
        let table = table(&left);
        let tickets = [Ticket::new(), Ticket::new(), Ticket::new()];
        let slots = tickets.each_ref().map(|of| table.expect(None, of, None));
        for slot in &slots {
            table.deliver(message(slot.subject(), None, LARGE));
        }
        assert_eq!(outcome(&tickets[0]).await, Ok(()));
        for refused in &tickets[1..] {
            assert_eq!(outcome(refused).await, Err(Failure::NoRoomForReply));
            assert!(refused.take_reply().is_none());
        }
        assert_eq!(left.bytes(), 50_000);
        let reply = tickets[0].take_reply();
        assert_eq!(left.bytes(), 50_000);
        drop(reply);
        assert_eq!(left.bytes(), 150_000);
        table.deliver(message(slots[0].subject(), None, LARGE));
        assert_eq!(left.bytes(), 150_000, "nobody waits for a second one");
    }

    #[tokio::test]
    async fn a_caller_that_leaves_gives_back_what_was_held_for_it() {
        let left = Left::new(200_000);
        let table = table(&left);
        let ticket = Ticket::new();
        let slot = table.expect(None, &ticket, None);
        table.deliver(message(slot.subject(), None, LARGE));
        let (many, waiting) = mpsc::channel(2);
        let asked = table.expect(None, &Ticket::new(), Some(many));
        table.deliver(message(asked.subject(), None, LARGE));
        assert_eq!(left.bytes(), 0);
        drop((slot, ticket));
        assert_eq!(left.bytes(), 100_000);
        drop((asked, waiting));
        assert_eq!(left.bytes(), 200_000);
    }

    #[tokio::test]
    async fn a_small_reply_needs_no_room() {
        let table = table(&Left::new(0));
        let ticket = Ticket::new();
        let slot = table.expect(None, &ticket, None);
        table.deliver(message(slot.subject(), None, &LARGE[..1000]));
        assert!(ticket.take_reply().unwrap().held.is_none());
    }

    #[tokio::test]
    async fn of_many_replies_none_comes_after_one_that_is_missing() {
        let left = Left::new(100_000);
        let table = table(&left);
        let ticket = Ticket::new();
        let (many, mut waiting) = mpsc::channel(9);
        let slot = table.expect(None, &ticket, Some(many));
        for payload in ["first", LARGE, LARGE, "last"] {
            table.deliver(message(slot.subject(), None, payload));
        }
        assert_eq!(outcome(&ticket).await, Err(Failure::NoRoomForReply));
        let mut sizes = Vec::new();
        while let Some(reply) = waiting.recv().await {
            sizes.push(reply.message.payload.len());
        }
        assert_eq!(sizes, [5, LARGE.len()]);
        assert_eq!(left.bytes(), 100_000);
    }

    #[test]
    fn a_foreign_or_damaged_token_is_ignored() {
        let table = table(&Left::new(0));
        for subject in [
            "_I.x.",
            "_I.x.zz",
            "_I.x",
            "_I",
            "_I.x.99999999999999999999999",
        ] {
            table.deliver(message(Subject::from_static(subject), None, "x"));
        }
    }
}
