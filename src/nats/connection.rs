//! One connection for the time it lives: an epoch.
//!
//! Nothing here survives it. A queue, its tickets, the fences and the replies belong to one
//! connection; when it goes, everybody who waits learns at once what that means for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_nats::{Client, ServerInfo, Subject, Subscriber};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep};

use super::connect::{InboxRights, Opened};
use super::events::{Signals, Watched};
use super::pending::{Pending, PendingReply, Replies, RunConfirm, Source};
use super::permissions::Permissions;
use super::queue::{Entry, Load, SendQueue, Settle};
use super::refusals::Refusal;
use super::ticket::Ticket;
use super::{Failure, Outbound, Refused};

/// How many subscriptions may wait for the server's opinion at once: two events for each, and those of
/// the fences, fit the channel.
const REGISTERING_MAX: usize = 48;

/// How soon a full queue is looked at again.
const FULL_AGAIN: Duration = Duration::from_millis(5);

/// One connection to one server.
pub struct Connection {
    pub(super) epoch: u64,
    pub(super) client: Client,
    pub(super) signals: Arc<Signals>,
    pub(super) queue: Arc<SendQueue>,
    pub(super) rights: InboxRights,
    pub(super) marker_subject: Subject,
    pub(super) inbox_root: String,
    /// Held by each inbox of its own.
    pub(super) inboxes: Arc<()>,
    /// The sender is handing over a batch.
    pub(super) sending: AtomicBool,
    pub(super) info: ServerInfo,
    permissions: Permissions,
    subscribing: tokio::sync::Mutex<()>,
    subscriptions: AtomicU64,
    /// Held from a SUB that may be denied until it is known whether it was.
    pub(super) registering: tokio::sync::Semaphore,
    probes: AtomicU64,
    _marker: Option<Subscriber>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(opened: Opened, epoch: u64) -> (Arc<Self>, Subscriber) {
        let info = opened.client.server_info();
        let connection = Self {
            epoch,
            client: opened.client,
            queue: Arc::clone(&opened.signals.queue),
            signals: opened.signals,
            rights: opened.rights,
            marker_subject: opened.marker_subject,
            inbox_root: opened.inbox_root,
            inboxes: Arc::default(),
            sending: AtomicBool::new(false),
            info,
            permissions: opened.permissions,
            subscribing: tokio::sync::Mutex::new(()),
            subscriptions: AtomicU64::new(opened.subscriptions),
            registering: tokio::sync::Semaphore::new(REGISTERING_MAX),
            probes: AtomicU64::new(0),
            _marker: opened.marker,
        };
        (Arc::new(connection), opened.inbox)
    }

    /// Counts connections of a link, from 1.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The server's INFO as it was at the connect.
    #[must_use]
    pub const fn server(&self) -> &ServerInfo {
        &self.info
    }

    pub(super) fn is_closed(&self) -> bool {
        self.signals.closed.is_cancelled()
    }

    /// Whether the server could deny messages that we believe are allowed.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.signals.uncertain.load(Ordering::Acquire)
    }

    /// Whether half of the send queue stays free when so much is sent. Who has much to send, and
    /// time, leaves that half to those who have not.
    #[must_use]
    pub fn keeps_half_free(&self, messages: usize, bytes: usize) -> bool {
        self.queue.keeps_half_free(messages, bytes)
    }

    /// Ends it, for all who use it.
    pub(super) fn close(&self) {
        self.signals.close();
    }

    /// Refuses what the server would refuse, before it costs a round trip or the connection.
    ///
    /// # Errors
    /// Too large for the server, or denied to its user.
    pub fn check(&self, message: &Outbound) -> Result<(), Failure> {
        let limit = self.client.max_payload();
        if message.counted_bytes() > limit {
            return Err(Failure::PayloadTooLarge { limit });
        }
        if !self.permissions.permits_publish(message.subject.as_str()) {
            return Err(Failure::PermissionDenied);
        }
        Ok(())
    }

    /// Takes a message that nobody waits for.
    pub(super) fn accept(&self, message: Outbound) -> Result<(), Refused> {
        self.check(&message)?;
        self.queue.push(Entry {
            load: Load::One(message),
            reply: None,
            ticket: None,
            settle: Settle::Flush,
        })
    }

    /// Queues a message whose outcome is known when the server has read it.
    pub(super) fn confirm(&self, message: Outbound) -> Result<Pending, Refused> {
        if !self.rights.can_fence() {
            return Err(Failure::ConfirmUnavailable.into());
        }
        self.check(&message)?;
        let ticket = Ticket::new();
        let entry = Entry {
            load: Load::One(message),
            reply: None,
            ticket: Some(Arc::clone(&ticket)),
            settle: Settle::Fence,
        };
        self.queue.push(entry)?;
        Ok(Pending {
            ticket,
            limit: self.client.max_payload(),
        })
    }

    /// Waits until everything sent before has been read by the server.
    ///
    /// # Errors
    /// No right to a fence, or the connection was lost, or the deadline passed.
    pub async fn fence(&self, deadline: Instant) -> Result<(), Failure> {
        if !self.rights.can_fence() {
            return Err(Failure::ConfirmUnavailable);
        }
        let ticket = Ticket::new();
        let entry = Entry {
            load: Load::Many(Vec::new()),
            reply: None,
            ticket: Some(Arc::clone(&ticket)),
            settle: Settle::Fence,
        };
        self.queue.push(entry)?;
        ticket.outcome_by(deadline).await
    }

    /// Waits until the server has read everything that was taken over before, whatever rights there
    /// are.
    pub(super) async fn drain(&self, deadline: Instant) -> Result<(), Failure> {
        if self.rights.can_fence() {
            return retried(deadline, || self.fence(deadline)).await;
        }
        retried(deadline, async || {
            let all = self.begin_run(Vec::new(), RunConfirm::Flushed)?;
            all.outcome(deadline).await
        })
        .await?;
        self.settle(self.signals.fences.events(), deadline).await
    }

    /// Queues a message at once, in the order of the calls; its reply is waited for later.
    ///
    /// # Errors
    /// Nothing was sent: what [`Self::check`] says, no right to read the inbox, or a full queue.
    pub fn begin_request(&self, message: Outbound) -> Result<PendingReply, Failure> {
        self.ask(message).map_err(Failure::from)
    }

    /// The same, with the message handed back where it may be sent over another connection.
    pub(super) fn ask(&self, message: Outbound) -> Result<PendingReply, Refused> {
        self.check_reply(&message)?;
        let ticket = Ticket::new();
        let slot = self
            .signals
            .replies
            .expect(Some(message.subject.clone()), &ticket, None);
        self.send_with_reply(message, slot.subject(), &ticket)?;
        Ok(PendingReply {
            _slot: slot,
            pending: Pending {
                ticket,
                limit: self.client.max_payload(),
            },
        })
    }

    /// Queues a run of messages that share a fate, at once and in order. Where the server may deny
    /// messages unexpectedly ([`Self::is_uncertain`]) a run must be a single message, or nobody
    /// could tell which one was denied.
    ///
    /// # Errors
    /// Nothing was sent: no right to a fence, a full queue, or no connection any more. Each message
    /// should have passed [`Self::check`] before.
    pub fn begin_run(
        &self,
        messages: Vec<Outbound>,
        confirm: RunConfirm,
    ) -> Result<Pending, Failure> {
        let settle = match confirm {
            RunConfirm::Flushed => Settle::Flush,
            RunConfirm::Server if self.rights.can_fence() => Settle::Fence,
            RunConfirm::Server => return Err(Failure::ConfirmUnavailable),
        };
        let ticket = Ticket::new();
        let pending = Pending {
            ticket: Arc::clone(&ticket),
            limit: self.client.max_payload(),
        };
        let load = Load::Many(messages);
        self.queue.push(Entry {
            load,
            reply: None,
            ticket: Some(ticket),
            settle,
        })?;
        Ok(pending)
    }

    /// Sends a message whose replies come one by one; at most `capacity` wait to be read.
    pub(super) fn request_many(
        self: &Arc<Self>,
        message: Outbound,
        capacity: usize,
    ) -> Result<Replies, Refused> {
        self.check_reply(&message)?;
        let replies = self.expect_many(Some(message.subject.clone()), capacity);
        self.send_with_reply(message, replies.subject(), &replies.ticket)?;
        Ok(replies)
    }

    /// An inbox of its own, for whoever sends there by other means, such as a pull consumer.
    pub(super) async fn inbox(self: &Arc<Self>) -> Result<Replies, Failure> {
        if !self.rights.read {
            return Err(Failure::PermissionDenied);
        }
        let subject = self.own_subject('i');
        let subscriber = self.subscribe(subject.clone(), None).await?.0;
        let ticket = Ticket::new();
        ticket.hand_over();
        Ok(Replies {
            connection: Arc::clone(self),
            ticket,
            source: Source::Own {
                subject,
                subscriber,
                _counted: Arc::clone(&self.inboxes),
            },
        })
    }

    fn expect_many(self: &Arc<Self>, subject: Option<Subject>, capacity: usize) -> Replies {
        let ticket = Ticket::new();
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let slot = self.signals.replies.expect(subject, &ticket, Some(sender));
        Replies {
            connection: Arc::clone(self),
            ticket,
            source: Source::Shared { slot, receiver },
        }
    }

    fn check_reply(&self, message: &Outbound) -> Result<(), Failure> {
        if !self.rights.read {
            return Err(Failure::PermissionDenied);
        }
        self.check(message)
    }

    fn send_with_reply(
        &self,
        message: Outbound,
        reply: Subject,
        ticket: &Arc<Ticket>,
    ) -> Result<(), Refused> {
        let ticket = Some(Arc::clone(ticket));
        self.queue.push(Entry {
            load: Load::One(message),
            reply: Some(reply),
            ticket,
            settle: Settle::Reply,
        })
    }

    /// Subscribes; what happens to the subscription is told from the first moment on.
    pub(super) async fn subscribe(
        &self,
        pattern: Subject,
        queue: Option<String>,
    ) -> Result<(Subscriber, Watched), Failure> {
        // The id is not told but counted: subscriptions are made one after the other, and one counts
        // even where its caller leaves, since the library has counted it by then.
        let _one_at_a_time = self.subscribing.lock().await;
        let sid = self.subscriptions.fetch_add(1, Ordering::AcqRel) + 1;
        let watched = self.signals.watch(sid);
        let subscribed = match queue {
            None => self.client.subscribe(pattern).await,
            Some(group) => self.client.queue_subscribe(pattern, group).await,
        };
        Ok((subscribed.map_err(|_| Failure::Disconnected)?, watched))
    }

    /// Waits until the server has handled everything before, be it by a fence or, where the user has
    /// no right to one, by an error that the server sends in order. Fails where an error may have been
    /// dropped since there were `events` of them.
    pub(super) async fn settle(&self, events: u64, deadline: Instant) -> Result<(), Failure> {
        if self.rights.can_fence() {
            return self.fence(deadline).await;
        }
        let mut changes = self.signals.changed.subscribe();
        let subject = self.probe_subject();
        // Kept until the answer is here: an early UNSUB changes nothing, but costs a command.
        let mut refusal = Refusal::Publish(subject.to_string());
        let _refused = if self.rights.read {
            self.client
                .publish(subject.clone(), bytes::Bytes::new())
                .await
                .map_err(|_| Failure::Lost)?;
            None
        } else {
            refusal = Refusal::Subscription(subject.to_string(), None);
            Some(self.subscribe(subject.clone(), None).await?)
        };
        let answered = async {
            while !self.signals.refusals.take(&refusal) {
                tokio::select! {
                    changed = changes.changed() => changed.map_err(|_| Failure::Lost)?,
                    () = self.signals.closed.cancelled() => return Err(Failure::Lost),
                }
            }
            if self.signals.fences.may_have_dropped_since(events) {
                return Err(Failure::Lost);
            }
            Ok(())
        };
        tokio::time::timeout_at(deadline, answered)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// A subject of our own for one probe.
    pub(super) fn probe_subject(&self) -> Subject {
        self.own_subject('p')
    }

    fn own_subject(&self, kind: char) -> Subject {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        Subject::from(format!("{}.{kind}.{number}", self.inbox_root))
    }

    /// Whether nothing is under way any more.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.depth().0 == 0
            && self.signals.fences.under_way() == 0
            && self.signals.replies.len() == 0
            && Arc::strong_count(&self.inboxes) == 1
            && !self.sending.load(Ordering::Acquire)
    }
}

/// Does it again while the queue is full.
async fn retried(
    deadline: Instant,
    mut attempt: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        match attempt().await {
            Err(Failure::BufferFull) if Instant::now() < deadline => sleep(FULL_AGAIN).await,
            done => return done,
        }
    }
}
