//! What a failure between natsway and NATS means to a caller.

use super::{Code, Outcome, Problem};
use crate::nats::Failure;

/// What was being done when it failed: the same timeout means another thing to a publisher than to
/// somebody who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Publishing.
    Publish,
    /// Waiting for replies.
    Request,
    /// Subscribing.
    Subscribe,
    /// Talking to JetStream's API.
    JetStream,
}

impl Problem {
    /// The problem that a failure is.
    #[must_use]
    pub fn from_failure(failure: Failure, doing: Doing) -> Self {
        match failure {
            Failure::Disconnected => Self::new(Code::NatsDisconnected).outcome(Outcome::NotSent),
            Failure::Lost => lost(doing),
            Failure::BufferFull => {
                Self::new(Code::Overloaded).detail("the send queue towards NATS is full")
            }
            Failure::NotSentInTime => Self::new(Code::NatsDisconnected)
                .outcome(Outcome::NotSent)
                .detail("NATS did not take the message in time; it was taken back"),
            Failure::Timeout => timeout(doing),
            Failure::NoResponders => Self::new(Code::NoResponders),
            Failure::PermissionDenied => Self::new(Code::NatsPermissionDenied),
            Failure::ConfirmUnavailable => Self::new(Code::ConfirmUnavailable),
            Failure::PayloadTooLarge { limit } => Self::new(Code::PayloadTooLarge).limit(limit),
            Failure::TooManyReplies => Self::new(Code::Overloaded)
                .outcome(Outcome::Unknown)
                .detail("replies came faster than they could be handed on"),
            // The service has done its work by then, so another attempt is not the same as this one.
            Failure::NoRoomForReply => Self::new(Code::Overloaded)
                .outcome(Outcome::Unknown)
                .detail("the reply came, but the bodies held at once have reached `memory.bodies`"),
            Failure::SubscriptionLimit => Self::new(Code::SubscriptionLimit),
        }
    }
}

fn lost(doing: Doing) -> Problem {
    let problem = match doing {
        Doing::Publish => Problem::new(Code::PublishOutcomeUnknown)
            .detail("the connection to NATS was lost before the message was confirmed"),
        Doing::Request | Doing::JetStream => Problem::new(Code::NatsDisconnected)
            .detail("the connection to NATS was lost after the message was sent"),
        Doing::Subscribe => return Problem::new(Code::NatsDisconnected).outcome(Outcome::NotSent),
    };
    problem.outcome(Outcome::Unknown)
}

fn timeout(doing: Doing) -> Problem {
    match doing {
        Doing::Publish => Problem::new(Code::PublishOutcomeUnknown),
        Doing::Request => Problem::new(Code::ReplyTimeout),
        Doing::JetStream => Problem::new(Code::JetStreamUnavailable)
            .outcome(Outcome::Unknown)
            .detail("JetStream did not answer in time"),
        Doing::Subscribe => Problem::new(Code::NatsDisconnected)
            .outcome(Outcome::NotSent)
            .detail("NATS did not confirm the subscription in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_may_be_tried_again_and_what_is_unknown_may_not() {
        let not_sent = Problem::from_failure(Failure::Disconnected, Doing::Publish);
        assert!(not_sent.is_retryable());
        for doing in [Doing::Publish, Doing::Request, Doing::JetStream] {
            for failure in [Failure::Lost, Failure::Timeout] {
                let problem = Problem::from_failure(failure, doing);
                assert_eq!(
                    problem.message_outcome(),
                    Outcome::Unknown,
                    "{failure:?} {doing:?}"
                );
                assert!(!problem.is_retryable(), "{failure:?} {doing:?}");
            }
        }
    }
}
