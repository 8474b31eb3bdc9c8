//! What can go wrong between natsway and NATS, without any HTTP in it.

use super::Outbound;

/// Why a call over a link failed, and by that whether anything left natsway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection; nothing was sent.
    #[error("not connected")]
    Disconnected,
    /// The connection was lost after the message was handed to it.
    #[error("the connection was lost before the outcome was known")]
    Lost,
    /// The send queue is full; nothing was sent.
    #[error("the send queue is full")]
    BufferFull,
    /// The deadline passed while the message still waited to be sent; it was taken back.
    #[error("not sent in time")]
    NotSentInTime,
    /// The deadline passed after the message was sent.
    #[error("no answer in time")]
    Timeout,
    /// Nobody listens on the subject.
    #[error("no responders")]
    NoResponders,
    /// The NATS user may not use the subject; the server refused it, or would have.
    #[error("permission denied")]
    PermissionDenied,
    /// The NATS user may not publish to natsway's inbox prefix, so nothing can be fenced.
    #[error("no permission on the inbox prefix")]
    ConfirmUnavailable,
    /// Payload and headers are larger than the server takes.
    #[error("larger than the server's max_payload of {limit} bytes")]
    PayloadTooLarge {
        /// The server's `max_payload`, in bytes.
        limit: usize,
    },
    /// More replies came than the caller had room for.
    #[error("more replies than there was room for")]
    TooManyReplies,
    /// The reply came, and there was no room for it.
    #[error("no room for the reply")]
    NoRoomForReply,
    /// The account's limit of subscriptions is reached.
    #[error("the account allows no more subscriptions")]
    SubscriptionLimit,
}

impl Failure {
    /// Whether it is certain that the message did not leave natsway, and will not. Of a run of messages,
    /// [`Self::PayloadTooLarge`] says it of one that is not known: the others were sent.
    #[must_use]
    pub const fn is_not_sent(self) -> bool {
        !matches!(
            self,
            Self::Lost
                | Self::Timeout
                | Self::TooManyReplies
                | Self::NoRoomForReply
                | Self::NoResponders
                | Self::PermissionDenied
        )
    }
}

/// A failure, and the message itself where nothing was taken of it and another connection may take it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    pub(super) message: Option<Box<Outbound>>,
}

impl Refused {
    /// The connection is gone.
    pub(super) fn disconnected(message: Option<Outbound>) -> Self {
        Self {
            failure: Failure::Disconnected,
            message: message.map(Box::new),
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            message: None,
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refused.failure
    }
}
