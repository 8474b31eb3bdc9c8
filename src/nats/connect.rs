//! One attempt to connect to one server, and what is learned in the first round trips.
//!
//! A client of async-nats is used for one connection and never renewed: what waits in it when the
//! connection breaks would be sent late, after callers were told that it was not. So once it has been
//! connected it gets no credentials any more, gives up, and the supervisor makes a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Subject, Subscriber};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::Failure;
use super::credentials::Credentials;
use super::events::Signals;
use super::link::Link;
use super::permissions::{Permissions, USER_INFO};
use super::queue::SendQueue;
use super::refusals::Refusal;
use super::replies::ReplyTable;
use super::settings::Settings;
use super::subscription;
use super::ticket::Ticket;

/// How many messages async-nats keeps for one subscription before it drops the newest. Each marker holds as
/// many for as long as its connection lives, 250 bytes each, and they have to come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// For subjects that anybody may flood. Our own rings come behind it and are read without waiting for
    /// clients.
    Large,
    /// Where each message is taken as it comes, by [`super::reading`], so that they only pile up while that
    /// begins.
    Small,
}

impl Channel {
    pub(super) const fn is_large(self) -> bool {
        matches!(self, Self::Large)
    }

    const fn capacity(self) -> usize {
        match self {
            Self::Large => subscription::CAPACITY,
            Self::Small => 256,
        }
    }
}
/// Commands that async-nats takes before it lets callers wait: more than a batch holds.
const COMMAND_CAPACITY: usize = 2048;
/// How long the server may take to say what its user may do.
const USER_INFO_TIMEOUT: Duration = Duration::from_secs(1);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the credentials cannot be used: {0}")]
    Credentials(String),
    #[error("{0}")]
    Client(#[from] async_nats::ConnectError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection broke during its first round trip")]
    Broken,
}

/// What the NATS user may do with natsway's own inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InboxRights {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl InboxRights {
    pub(super) const fn can_fence(self) -> bool {
        self.read && self.write
    }
}

/// A connection that has passed its first round trip.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) signals: Arc<Signals>,
    pub(super) inbox: Subscriber,
    /// Full for ever; their overflow is the fences' echo.
    pub(super) markers: Vec<Subscriber>,
    pub(super) channel: Channel,
    /// How many subscriptions were made, which is the id of the last.
    pub(super) subscriptions: u64,
    pub(super) rights: InboxRights,
    pub(super) permissions: Permissions,
    /// The connection's own part of the inbox: `<prefix>.<random>`.
    pub(super) inbox_root: String,
}

/// Connects to `address` and finds out what the connection is good for.
pub(super) async fn open(
    settings: &Settings,
    address: &str,
    link: &Link,
) -> Result<Opened, ConnectError> {
    let inbox_root = format!("{}.{}", settings.inbox_prefix, random_token());
    let signals = Signals::new(
        SendQueue::new(settings.queue),
        ReplyTable::new(format!("{inbox_root}.r"), Arc::clone(link.room())),
        Arc::clone(link.stats()),
    );
    let used = Arc::new(AtomicBool::new(false));
    let options = options(settings, link.channel(), &signals, &used)?;
    // DNS stands outside the library's timeout, so there is one around it all.
    let limit = settings.connect_timeout.saturating_mul(2);
    let client = timeout(limit, options.connect(address))
        .await
        .map_err(|_| ConnectError::Timeout(limit))??;
    used.store(true, Ordering::Release);
    let close = signals.closed.clone().drop_guard();
    let opened = timeout(limit, explore(client, link.channel(), signals, inbox_root)).await;
    let opened = opened.map_err(|_| ConnectError::Timeout(limit))??;
    close.disarm();
    Ok(opened)
}

async fn explore(
    client: Client,
    channel: Channel,
    signals: Arc<Signals>,
    inbox_root: String,
) -> Result<Opened, ConnectError> {
    let broken = |_| ConnectError::Broken;
    let wildcard = signals.replies.wildcard();
    let mut inbox = client
        .subscribe(wildcard.clone())
        .await
        .map_err(|_| ConnectError::Broken)?;
    let rights = probe_rights(&client, &signals, &mut inbox, wildcard.as_str())
        .await
        .map_err(broken)?;
    let permissions = if rights.read {
        user_info(&client, &signals, &mut inbox).await
    } else {
        Permissions::default()
    };
    signals
        .uncertain
        .store(!permissions.is_certain(), Ordering::Release);
    let markers = match rights.can_fence() {
        true => fill_markers(&client, channel, &signals, &inbox_root)
            .await
            .map_err(broken)?,
        false => Vec::new(),
    };
    let subscriptions = 1 + markers.len() as u64;
    Ok(Opened {
        client,
        signals,
        inbox,
        markers,
        channel,
        subscriptions,
        rights,
        permissions,
        inbox_root,
    })
}

/// Sends one message to ourselves: either it comes back, or an error says what is missing.
async fn probe_rights(
    client: &Client,
    signals: &Arc<Signals>,
    inbox: &mut Subscriber,
    wildcard: &str,
) -> Result<InboxRights, Failure> {
    let echo = ask_self(client, signals).await?;
    let mut changed = signals.changed.subscribe();
    loop {
        let read_denied = signals
            .refusals
            .take(&Refusal::Subscription(wildcard.to_owned(), None));
        if read_denied {
            return probe_write(client, signals)
                .await
                .map(|write| InboxRights { read: false, write });
        }
        tokio::select! {
            message = next(inbox) => signals.replies.deliver(message.ok_or(Failure::Lost)?),
            outcome = echo.0.outcome_by(far_future()) => return match outcome {
                Ok(()) => Ok(InboxRights { read: true, write: true }),
                Err(Failure::PermissionDenied) => Ok(InboxRights { read: true, write: false }),
                Err(failure) => Err(failure),
            },
            _ = changed.changed() => {}
            () = signals.closed.cancelled() => return Err(Failure::Lost),
        }
    }
}

/// Without a subscription to the inbox no echo can come; whether writing is denied matters little
/// then, and only an error could tell.
async fn probe_write(client: &Client, signals: &Arc<Signals>) -> Result<bool, Failure> {
    client.flush().await.map_err(|_| Failure::Lost)?;
    Ok(!signals.closed.is_cancelled())
}

type Asked = (Arc<Ticket>, super::replies::ReplySlot);

async fn ask_self(client: &Client, signals: &Arc<Signals>) -> Result<Asked, Failure> {
    let ticket = Ticket::new();
    ticket.hand_over();
    let slot = signals.replies.expect_from_self(&ticket);
    let subject = slot.subject();
    client
        .publish(subject, Bytes::new())
        .await
        .map_err(|_| Failure::Lost)?;
    Ok((ticket, slot))
}

/// Asks the server what its user may do; uncertain where it does not say.
async fn user_info(client: &Client, signals: &Arc<Signals>, inbox: &mut Subscriber) -> Permissions {
    let ticket = Ticket::new();
    ticket.hand_over();
    let subject = Subject::from_static(USER_INFO);
    let slot = signals.replies.expect(Some(subject.clone()), &ticket, None);
    if client
        .publish_with_reply(subject, slot.subject(), Bytes::new())
        .await
        .is_err()
    {
        return Permissions::default();
    }
    let deadline = Instant::now() + USER_INFO_TIMEOUT;
    let outcome = ticket.outcome_by(deadline);
    tokio::pin!(outcome);
    loop {
        tokio::select! {
            outcome = &mut outcome => {
                let answer = outcome.ok().and_then(|()| ticket.take_reply());
                return answer.map_or_else(Permissions::default, |answer| Permissions::from_user_info(&answer.message.payload));
            }
            Some(message) = next(inbox) => signals.replies.deliver(message),
        }
    }
}

/// Fills the markers' subscriptions until they overflow for the first time.
async fn fill_markers(
    client: &Client,
    channel: Channel,
    signals: &Arc<Signals>,
    inbox_root: &str,
) -> Result<Vec<Subscriber>, Failure> {
    let mut events = signals.marker_events.subscribe();
    let subjects = signals.markers.get_or_init(|| {
        // A responder knows the root from its reply subjects. Could it guess the rest, it could confirm
        // what the server has not read.
        [(); 2].map(|()| Subject::from(format!("{inbox_root}.m{:016x}", rand::random::<u64>())))
    });
    let mut markers = Vec::with_capacity(subjects.len());
    for subject in subjects {
        markers.push(
            client
                .subscribe(subject.clone())
                .await
                .map_err(|_| Failure::Lost)?,
        );
        for _ in 0..=channel.capacity() {
            let filled = client.publish(subject.clone(), Bytes::new()).await;
            filled.map_err(|_| Failure::Lost)?;
        }
    }
    tokio::select! {
        full = events.wait_for(|count| *count >= subjects.len() as u64) => full.map(drop).map_err(|_| Failure::Lost)?,
        () = signals.closed.cancelled() => return Err(Failure::Lost),
    }
    signals.fences.arm();
    Ok(markers)
}

fn options(
    settings: &Settings,
    channel: Channel,
    signals: &Arc<Signals>,
    used: &Arc<AtomicBool>,
) -> Result<ConnectOptions, ConnectError> {
    let credentials = Credentials::read(&settings.auth).map_err(ConnectError::Credentials)?;
    let used = Arc::clone(used);
    let on_event = Arc::clone(signals);
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let answer = if used.load(Ordering::Acquire) {
            Err("a connection is not renewed".to_owned())
        } else {
            credentials.answer(&nonce)
        };
        async move { answer.map_err(AuthError::new) }
    })
    .event_callback(move |event| {
        on_event.on(event);
        std::future::ready(())
    })
    .name(&settings.name)
    .max_reconnects(1)
    .reconnect_delay_callback(|_| Duration::ZERO)
    .connection_timeout(settings.connect_timeout)
    .ping_interval(settings.ping_interval)
    .subscription_capacity(channel.capacity())
    .client_capacity(COMMAND_CAPACITY)
    .skip_subject_validation(true)
    .ignore_discovered_servers()
    .require_tls(settings.tls.required);
    if settings.tls.first {
        options = options.tls_first();
    }
    if let Some(path) = &settings.tls.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &settings.tls.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

async fn next(subscriber: &mut Subscriber) -> Option<super::Inbound> {
    futures_util::StreamExt::next(subscriber).await
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// 96 random bits in letters and digits, so that nobody guesses another's inbox.
fn random_token() -> String {
    use rand::Rng;
    rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(16)
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_repeat() {
        assert_ne!(random_token(), random_token());
    }
}
