//! The one task that hands messages to a connection.
//!
//! async-nats wakes its connection task for every single message, and each wake is a write to the
//! socket. So callers leave messages in a queue; the sender, once woken, yields so that everybody
//! who is ready can add theirs, as long as that brings more, and hands over what has gathered as one write.
//!
//! It takes the next batch only when the last was flushed: what the library holds when a connection
//! breaks is at most one batch, and only for that the outcome is unknown.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{PublishErrorKind, Subject};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::Outbound;
use super::connection::Connection;
use super::fence::Waiter;
use super::queue::{Entry, Settle};
use super::ticket::{Ticket, Verdict};

/// The most that is handed over before a flush. A flush waits its turn among all connections' tasks, so
/// a smaller batch would fill the queue where a thousand of them publish at once.
const BATCH_BYTES: usize = 256 * 1024;
/// So many need not be waited for: a write for them is worth it.
const GATHERED_MESSAGES: usize = 64;
/// A turn may be long where a worker has many tasks.
const GATHERING_TURNS: usize = 8;
/// How long a connection waits for the one it takes over from, which its server still serves.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// Fewer than async-nats takes without letting us wait.
const BATCH_MESSAGES: usize = 1024;

/// Runs until the connection is closed. Where it takes over from another, what that one holds goes first.
pub(super) async fn run(connection: Arc<Connection>, before: Option<Arc<Connection>>) {
    let closed = connection.signals.closed.clone();
    let mut sender = Sender {
        connection,
        entries: Vec::new(),
        waiters: Vec::new(),
        flushed: Vec::new(),
        unconfirmed: 0,
    };
    let forward = async {
        if let Some(before) = before {
            let drained = before.drain(Instant::now() + TAKE_OVER);
            let _as_far_as_possible = timeout(TAKE_OVER, drained).await;
        }
        sender.forward().await;
        sender.connection.close();
    };
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        () = forward => {}
    }
}

struct Sender {
    connection: Arc<Connection>,
    entries: Vec<Entry>,
    waiters: Vec<Waiter>,
    flushed: Vec<Arc<Ticket>>,
    /// How many of the batch nobody waits for, until it is flushed.
    unconfirmed: u64,
}

impl Drop for Sender {
    /// What was handed over and waited for its flush will not be flushed any more.
    fn drop(&mut self) {
        for ticket in self.flushed.drain(..) {
            ticket.settle_disconnected();
        }
        let stats = &self.connection.signals.stats;
        stats
            .lost_unconfirmed
            .fetch_add(self.unconfirmed, Ordering::Relaxed);
    }
}

impl Sender {
    /// Returns when the connection can take no more.
    async fn forward(&mut self) {
        loop {
            self.connection.queue.readable().await;
            self.gather().await;
            let signals = &self.connection.signals;
            let room = signals.fences.room(&signals.uncertain).await;
            self.connection.sending.store(true, Ordering::Release);
            if room > 0 {
                let queue = &self.connection.queue;
                queue.take(BATCH_BYTES, room.min(BATCH_MESSAGES), &mut self.entries);
            }
            if self.send_batch(room < usize::MAX).await.is_break() {
                return;
            }
            self.connection.sending.store(false, Ordering::Release);
        }
    }

    /// Lets others go first, as long as they bring more. A message alone waits for one turn; many share a
    /// write, a fence, and the server's turns for both.
    async fn gather(&self) {
        let mut before = 0;
        for _ in 0..GATHERING_TURNS {
            let waiting = self.connection.queue.depth().0;
            if waiting >= GATHERED_MESSAGES || waiting <= before {
                return;
            }
            before = waiting;
            tokio::task::yield_now().await;
        }
    }

    /// Sends what was taken, with a fence behind it where somebody waits for one or there is to be one.
    async fn send_batch(&mut self, with_fence: bool) -> ControlFlow<()> {
        self.claim();
        let messages = self.entries.iter().map(|entry| entry.load.len()).sum();
        self.count();
        let with_fence = with_fence || !self.waiters.is_empty();
        let signals = Arc::clone(&self.connection.signals);
        let marker = signals.markers.get().filter(|_| with_fence).map(|markers| {
            // Before the first message, so that an error that comes early finds its waiter.
            let waiters = std::mem::take(&mut self.waiters);
            &markers[signals.fences.register(waiters, messages)]
        });
        self.hand_over().await?;
        let client = &self.connection.client;
        if let Some(marker) = marker
            && client.publish(marker.clone(), Bytes::new()).await.is_err()
        {
            return ControlFlow::Break(());
        }
        if client.flush().await.is_err() {
            return ControlFlow::Break(());
        }
        self.unconfirmed = 0;
        self.flushed
            .drain(..)
            .for_each(|ticket| ticket.settle(Verdict::Done));
        ControlFlow::Continue(())
    }

    fn count(&mut self) {
        let (mut messages, mut bytes) = (0, 0);
        for entry in &self.entries {
            let load = entry.load.messages();
            messages += load.len() as u64;
            bytes += load
                .iter()
                .map(|message| message.payload.len() as u64)
                .sum::<u64>();
            if entry.ticket.is_none() {
                self.unconfirmed += load.len() as u64;
            }
        }
        let stats = &self.connection.signals.stats;
        stats.sent_messages.fetch_add(messages, Ordering::Relaxed);
        stats.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes each message from its caller; what was taken back is not sent.
    fn claim(&mut self) {
        let (waiters, flushed) = (&mut self.waiters, &mut self.flushed);
        self.entries.retain(|entry| {
            let Some(ticket) = &entry.ticket else {
                return true;
            };
            if !ticket.hand_over() {
                return false;
            }
            match entry.settle {
                Settle::Fence => wait(waiters, ticket, entry.load.messages()),
                Settle::Flush => flushed.push(Arc::clone(ticket)),
                Settle::Reply => {}
            }
            true
        });
    }

    /// All of it in one function: another one would hold each message once more, and move it.
    async fn hand_over(&mut self) -> ControlFlow<()> {
        let client = &self.connection.client;
        for entry in self.entries.drain(..) {
            let (mut reply, ticket) = (entry.reply, entry.ticket);
            debug_assert!(
                reply.is_none() || entry.load.len() == 1,
                "a run has no reply"
            );
            for message in entry.load {
                let (subject, payload) = (message.subject, message.payload);
                let done = match (reply.take(), message.headers) {
                    (None, None) => client.publish(subject, payload).await,
                    (None, Some(headers)) => {
                        client.publish_with_headers(subject, headers, payload).await
                    }
                    (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
                    (Some(reply), Some(headers)) => {
                        client
                            .publish_with_reply_and_headers(subject, reply, headers, payload)
                            .await
                    }
                };
                match done.map_err(|error| error.kind()) {
                    Ok(()) => {}
                    // The limit may have been lowered since it was checked.
                    Err(PublishErrorKind::MaxPayloadExceeded) => {
                        ticket
                            .iter()
                            .for_each(|ticket| ticket.settle(Verdict::TooLarge));
                    }
                    Err(_) => return ControlFlow::Break(()),
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Has a ticket wait for the fence behind its messages, once for those in a row that have one subject.
fn wait(waiters: &mut Vec<Waiter>, ticket: &Arc<Ticket>, messages: &[Outbound]) {
    let mut add = |subject, messages| {
        waiters.push(Waiter {
            subject,
            messages,
            ticket: Arc::clone(ticket),
        });
    };
    if messages.is_empty() {
        add(Subject::from_static(""), 0);
    }
    for same in messages.chunk_by(|one, next| one.subject == next.subject) {
        add(same[0].subject.clone(), same.len());
    }
}
