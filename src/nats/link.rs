//! A link: the way to NATS that callers hold, over one connection after the other.

use std::future::ready;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::Either;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};

use super::connect::Channel;
use super::connection::Connection;
use super::pending::{Pending, PendingReply, Replies};
use super::stats::LinkStats;
use super::{Failure, Outbound, Refused, Reply, Room};

/// What a link is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// No connection; one is being made.
    Connecting,
    /// Connected; the number counts connections from 1.
    Connected(u64),
    /// Connected to a server that is about to leave; another is looked for.
    LameDuck(u64),
    /// Closed for good.
    Closed,
}

impl LinkState {
    /// The connection's number, where there is one.
    #[must_use]
    pub const fn epoch(self) -> Option<u64> {
        match self {
            Self::Connected(epoch) | Self::LameDuck(epoch) => Some(epoch),
            Self::Connecting | Self::Closed => None,
        }
    }
}

/// How long a call may take and what it does while NATS is away.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When the caller must have its answer.
    pub deadline: Instant,
    /// Whether to wait for a connection until then, or to fail at once.
    pub wait: bool,
}

/// What a 2xx to a publish means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// natsway has taken it into its send queue.
    Accepted,
    /// The server has read it.
    Server,
}

/// One supervised way to NATS.
#[derive(Debug)]
pub struct Link {
    name: String,
    current: ArcSwapOption<Connection>,
    state: watch::Sender<LinkState>,
    stats: Arc<LinkStats>,
    moves: Arc<watch::Sender<u64>>,
    room: Arc<dyn Room>,
    channel: Channel,
    /// Where those wait who have time until there is a connection.
    line: Mutex<()>,
}

impl Link {
    /// `moves` is bumped at each new connection; large replies are paid for from `room`.
    pub(super) fn new(
        name: String,
        moves: &Arc<watch::Sender<u64>>,
        room: &Arc<dyn Room>,
        channel: Channel,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            current: ArcSwapOption::empty(),
            state: watch::Sender::new(LinkState::Connecting),
            stats: Arc::default(),
            moves: Arc::clone(moves),
            room: Arc::clone(room),
            channel,
            line: Mutex::default(),
        })
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is doing, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Its counters.
    #[must_use]
    pub const fn stats(&self) -> &Arc<LinkStats> {
        &self.stats
    }

    pub(super) const fn channel(&self) -> Channel {
        self.channel
    }

    pub(super) const fn room(&self) -> &Arc<dyn Room> {
        &self.room
    }

    /// Messages and bytes in its send queue.
    #[must_use]
    pub fn queue_depth(&self) -> (usize, usize) {
        self.current
            .load()
            .as_ref()
            .map_or((0, 0), |connection| connection.queue.depth())
    }

    /// How many replies are waited for.
    #[must_use]
    pub fn replies_pending(&self) -> usize {
        self.current
            .load()
            .as_ref()
            .map_or(0, |connection| connection.signals.replies.len())
    }

    pub(super) fn set(&self, connection: Option<Arc<Connection>>, state: LinkState) {
        let moved = connection.is_some();
        self.current.store(connection);
        self.state.send_replace(state);
        if moved {
            self.moves.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn set_state(&self, state: LinkState) {
        self.state.send_replace(state);
    }

    /// How large a payload the server takes, in bytes, where one was ever there.
    pub(super) fn max_payload(&self) -> Option<usize> {
        let connection = self.current.load();
        Some(connection.as_ref()?.client.max_payload())
    }

    /// The connection there is now.
    #[must_use]
    pub fn now(&self) -> Option<Arc<Connection>> {
        self.current
            .load_full()
            .filter(|connection| !connection.is_closed())
    }

    /// A connection, waited for if the call wants that.
    ///
    /// # Errors
    /// [`Failure::Disconnected`] if there is none in time.
    pub async fn connection(&self, call: Call) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.now() {
            return Ok(connection);
        }
        if !call.wait {
            return Err(Failure::Disconnected);
        }
        let mut state = self.state();
        timeout_at(call.deadline, async {
            loop {
                if let Some(connection) = self.now() {
                    return Ok(connection);
                }
                if *state.borrow_and_update() == LinkState::Closed {
                    return Err(Failure::Disconnected);
                }
                // A connection that is closed but still set is replaced with the next state.
                state.changed().await.map_err(|_| Failure::Disconnected)?;
            }
        })
        .await
        .unwrap_or(Err(Failure::Disconnected))
    }

    /// Publishes a message. It is queued by this call, if nobody wants to wait for a connection: so the
    /// future has no room for a message, and only waits for what becomes of it.
    ///
    /// # Errors
    /// What [`Failure`] says; [`Failure::is_not_sent`] tells whether it may have arrived.
    pub fn publish(
        &self,
        message: Outbound,
        confirm: Confirm,
        call: Call,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        if call.wait {
            let begin = move |message| self.begin_publish(message, confirm);
            let end = move |pending| outcome(Ok(pending), call.deadline);
            return Either::Left(Box::pin(self.until_connected(message, call, begin, end)));
        }
        let begun = self.begin_publish(message, confirm);
        Either::Right(async move {
            let refused = match outcome(begun, call.deadline).await {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let again = self.elsewhere(refused)?;
            let done = Box::pin(self.publish_once(again, confirm, call.deadline)).await;
            done.map_err(Failure::from)
        })
    }

    async fn publish_once(
        &self,
        message: Outbound,
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<(), Refused> {
        outcome(self.begin_publish(message, confirm), deadline).await
    }

    /// What a connection handed back when it went, if another one is there already.
    fn elsewhere(&self, refused: Refused) -> Result<Outbound, Failure> {
        let message = refused.message.filter(|_| self.now().is_some());
        message.map(|message| *message).ok_or(refused.failure)
    }

    /// Waits for a connection, and for another where that one went before it sent the message. Whoever came
    /// first is first to send, and what a connection gives back comes in the order in which it waited there,
    /// so that a subject keeps its order.
    async fn until_connected<P, T, F>(
        &self,
        message: Outbound,
        call: Call,
        begin: impl Fn(Outbound) -> Result<P, Refused> + Send,
        end: impl Fn(P) -> F + Send,
    ) -> Result<T, Failure>
    where
        P: Send,
        F: Future<Output = Result<T, Refused>> + Send,
    {
        loop {
            let in_line = timeout_at(call.deadline, self.line.lock()).await;
            let in_line = in_line.map_err(|_| Failure::Disconnected)?;
            self.connection(call).await?;
            let begun = begin(message.clone());
            drop(in_line);
            let done = match begun {
                Ok(pending) => end(pending).await,
                Err(refused) => Err(refused),
            };
            match done.map_err(Failure::from) {
                Err(Failure::Disconnected) if Instant::now() < call.deadline => {}
                done => return done,
            }
        }
    }

    /// Queues a message at once; nothing is pending where nobody waits for an outcome.
    fn begin_publish(
        &self,
        message: Outbound,
        confirm: Confirm,
    ) -> Result<Option<Pending>, Refused> {
        let connection = self.current.load();
        let Some(connection) = connection.as_ref() else {
            return Err(Refused::disconnected(Some(message)));
        };
        match confirm {
            Confirm::Accepted => connection.accept(message).map(|()| None),
            Confirm::Server => connection.confirm(message).map(Some),
        }
    }

    /// Sends a request, by this call as [`Self::publish`] does, and waits for one reply.
    ///
    /// # Errors
    /// As [`Self::publish`], and [`Failure::NoResponders`].
    pub fn request(
        &self,
        message: Outbound,
        call: Call,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send {
        if call.wait {
            let begin = move |message| self.begin_request(message);
            let end = move |pending: PendingReply| pending.reply_or_back(call.deadline);
            return Either::Left(Box::pin(self.until_connected(message, call, begin, end)));
        }
        let begun = self.begin_request(message);
        Either::Right(async move {
            let reply = match begun {
                Ok(pending) => pending.reply_or_back(call.deadline).await,
                Err(refused) => Err(refused),
            };
            let refused = match reply {
                Ok(reply) => return Ok(reply),
                Err(refused) => refused,
            };
            let again = self.elsewhere(refused)?;
            let done = Box::pin(self.request_once(again, call.deadline)).await;
            done.map_err(Failure::from)
        })
    }

    async fn request_once(&self, message: Outbound, deadline: Instant) -> Result<Reply, Refused> {
        self.begin_request(message)?.reply_or_back(deadline).await
    }

    fn begin_request(&self, message: Outbound) -> Result<PendingReply, Refused> {
        let connection = self.current.load();
        match connection.as_ref() {
            Some(connection) => connection.ask(message),
            None => Err(Refused::disconnected(Some(message))),
        }
    }

    /// Sends a request whose replies come one by one; at most `capacity` wait to be read.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_many(
        &self,
        message: Outbound,
        capacity: usize,
        call: Call,
    ) -> Result<Replies, Failure> {
        let begin = |message| self.begin_request_many(message, capacity);
        if call.wait {
            let end = |replies| ready(Ok(replies));
            return self.until_connected(message, call, begin, end).await;
        }
        match begin(message) {
            Ok(replies) => Ok(replies),
            Err(refused) => Ok(begin(self.elsewhere(refused)?)?),
        }
    }

    fn begin_request_many(&self, message: Outbound, capacity: usize) -> Result<Replies, Refused> {
        match self.current.load().as_ref() {
            Some(connection) => connection.request_many(message, capacity),
            None => Err(Refused::disconnected(Some(message))),
        }
    }

    /// Opens an inbox of its own on the connection there is. It holds some two thousand messages
    /// that nobody has read yet; who asks for more at once loses some.
    ///
    /// # Errors
    /// No connection in time, or no right to read the inbox.
    pub async fn inbox(&self, call: Call) -> Result<Replies, Failure> {
        let connection = self.connection(call).await?;
        timeout_at(call.deadline, connection.inbox())
            .await
            .unwrap_or(Err(Failure::NotSentInTime))
    }

    /// Waits until the server has read everything that was published over this link before.
    ///
    /// # Errors
    /// As [`Self::publish`]; [`Failure::Lost`] also where the connection is no longer `epoch`.
    pub async fn fence(&self, epoch: u64, deadline: Instant) -> Result<(), Failure> {
        let connection = self
            .now()
            .filter(|connection| connection.epoch == epoch)
            .ok_or(Failure::Lost)?;
        connection.fence(deadline).await
    }
}

/// What becomes of a message that was queued, or was not; at once where nobody waits for that.
async fn outcome(
    begun: Result<Option<Pending>, Refused>,
    deadline: Instant,
) -> Result<(), Refused> {
    match begun? {
        Some(pending) => pending.outcome_or_back(deadline).await,
        None => Ok(()),
    }
}
