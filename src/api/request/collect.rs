//! Gathers the replies that many give to one request.

use std::time::Duration;

use async_nats::Subject;
use tokio::time::Instant;

use crate::nats::{Failure, Inbound, Replies, Reply};
use crate::translate::service_error;

/// Why no more replies are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As many as were asked for.
    Count,
    /// None came for so long.
    Gap,
    /// One had an empty payload.
    Sentinel,
    /// The time is over.
    Timeout,
    /// One array holds no more.
    Size,
    /// NATS was lost.
    Disconnected,
    /// The client reads too slowly.
    SlowClient,
    /// natsway has no more memory for replies.
    Overloaded,
    /// natsway ends.
    Draining,
}

impl End {
    /// The word in the end notice and in `Natsway-End`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Gap => "gap",
            Self::Sentinel => "sentinel",
            Self::Timeout => "timeout",
            Self::Size => "size",
            Self::Disconnected => "disconnected",
            Self::SlowClient => "slow-client",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) count: usize,
    pub(super) gap: Option<Duration>,
    pub(super) deadline: Instant,
}

/// Replies as they come, and why they ended.
#[derive(Debug)]
pub(super) struct Collect {
    replies: Replies,
    /// Where the request went: what callers know replies by. The inbox is natsway's own business.
    subject: Subject,
    limits: Limits,
    count: usize,
    last: Instant,
}

impl Collect {
    pub(super) fn new(replies: Replies, subject: Subject, limits: Limits) -> Self {
        Self {
            replies,
            subject,
            limits,
            count: 0,
            last: Instant::now(),
        }
    }

    /// The next reply, or why there is none.
    ///
    /// # Errors
    /// When there was no reply at all, or none can be waited for any longer.
    pub(super) async fn next(&mut self) -> Result<Result<Reply, End>, Failure> {
        if self.count == self.limits.count {
            return Ok(Err(End::Count));
        }
        let gap = self.limits.gap.filter(|_| self.count > 0);
        let gap_end = gap.map(|gap| self.last + gap);
        let until = gap_end.map_or(self.limits.deadline, |end| end.min(self.limits.deadline));
        match self.replies.next(until).await {
            Ok(reply) if is_sentinel(&reply.message) => Ok(Err(End::Sentinel)),
            Ok(mut reply) => {
                self.count += 1;
                self.last = Instant::now();
                reply.message.subject = self.subject.clone();
                Ok(Ok(reply))
            }
            Err(Failure::Timeout) if self.count > 0 => {
                Ok(Err(match until < self.limits.deadline {
                    true => End::Gap,
                    false => End::Timeout,
                }))
            }
            Err(Failure::NoRoomForReply) if self.count > 0 => Ok(Err(End::Overloaded)),
            Err(failure) => Err(failure),
        }
    }
}

/// An error without a payload is an answer all the same.
fn is_sentinel(reply: &Inbound) -> bool {
    reply.payload.is_empty() && service_error::in_reply(reply.headers.as_ref()).is_none()
}
