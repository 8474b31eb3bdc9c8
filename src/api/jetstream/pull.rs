//! One pull request: a number of messages, asked for once, on an inbox of its own.
//!
//! The public pull protocol is spoken directly, because everything here depends on knowing when a
//! request has ended at the server: until then a message may still come, and one that nobody takes
//! is lost to all workers until the consumer's ack wait has passed.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::unreadable::is_status;
use crate::layers::memory::Drawn;
use crate::nats::{Call, Failure, Inbound, Link, Outbound, Replies};

/// How long after its own expiry a pull may still be answered: it is the leader's clock that counts,
/// and a replicated consumer answers only after its peers.
const GRACE: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Order {
    pub(super) batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_bytes: Option<u64>,
    /// End as soon as nothing more is there, once something was.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) no_wait: bool,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) expires: Duration,
}

fn nanoseconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Event {
    Message(Inbound),
    /// It has ended at the server, as it should.
    Ended(End),
    /// It may go on at the server, or have been lost: there was no answer in time, or the leader
    /// changes.
    Lost,
    /// Nobody took it, or the consumer was deleted; whoever asks learns which.
    Orphaned,
    /// The connection is gone.
    Failed(Failure),
    /// The server will not have it.
    Refused(Refusal),
}

/// How a pull ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With all messages, or with none left.
    Done,
    /// The next message is larger than the bytes left.
    TooLarge,
    /// Others were first with what there is.
    Others,
}

/// Why a pull is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It delivers by itself.
    Push,
    /// Too many pulls wait at the server.
    TooManyWaiting,
    /// Anything else, in the server's words.
    Other(String),
}

/// The pull.
#[derive(Debug)]
pub(super) struct Pull {
    replies: Replies,
    order: Order,
    left: usize,
    end: End,
    is_open: bool,
    until: Instant,
    /// What it may bring and nobody has taken yet.
    memory: Drawn,
}

impl Pull {
    /// An inbox for it; nothing is sent yet.
    pub(super) async fn prepare(
        link: &Link,
        order: Order,
        memory: Drawn,
        call: Call,
    ) -> Result<Self, Failure> {
        let replies = link.inbox(call).await?;
        Ok(Self {
            memory,
            replies,
            order,
            left: order.batch,
            end: End::Done,
            is_open: false,
            until: Instant::now(),
        })
    }

    /// Sends it.
    pub(super) async fn send(
        &mut self,
        stream: &str,
        consumer: &str,
        call: Call,
    ) -> Result<(), Failure> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let payload = serde_json::to_vec(&self.order).expect("an order can be written as JSON");
        let message = Outbound::new(subject.into(), Bytes::from(payload));
        // From here on it may arrive, whatever becomes of this future.
        self.is_open = true;
        self.until = call.deadline.min(Instant::now() + GRACE) + self.order.expires + GRACE;
        self.replies.send(message, call.deadline).await?;
        self.until = Instant::now() + self.order.expires + GRACE;
        Ok(())
    }

    /// What was drawn for it: whoever takes a message takes it over from there.
    pub(super) const fn memory(&mut self) -> &mut Drawn {
        &mut self.memory
    }

    /// Whether a message can still come.
    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Waits for at least so long from now: what a peer was slow to confirm is still delivered.
    pub(super) fn wait_for(&mut self, longer: Duration) {
        self.until = self.until.max(Instant::now() + longer);
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if self.left == 0 {
                self.is_open = false;
                return Event::Ended(self.end);
            }
            let event = match self.replies.next(self.until).await.map(|of| of.message) {
                Ok(message) if !is_status(&message) => {
                    self.left -= 1;
                    return Event::Message(message);
                }
                Ok(status) => match read_status(&status) {
                    None => continue,
                    Some(Event::Ended(end)) => {
                        self.ends(end, &status);
                        continue;
                    }
                    Some(event) => event,
                },
                Err(Failure::NoResponders) => Event::Orphaned,
                Err(Failure::Timeout | Failure::NotSentInTime) => Event::Lost,
                Err(failure) => Event::Failed(failure),
            };
            self.is_open = matches!(event, Event::Lost);
            return event;
        }
    }

    /// The end is told as soon as it is decided. A replicated consumer delivers only when its peers
    /// know, so messages may come after it; how many, the server says by what it leaves undelivered.
    fn ends(&mut self, end: End, status: &Inbound) {
        let headers = status.headers.as_ref();
        let undelivered = headers
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|value| value.as_str().parse().ok())
            .unwrap_or(self.left);
        self.end = end;
        self.left = self.left.saturating_sub(undelivered);
    }
}

/// What a status message says; nothing for a heartbeat.
fn read_status(message: &Inbound) -> Option<Event> {
    let status = message.status.map_or(0, |status| status.as_u16());
    let description = message.description.as_deref().unwrap_or_default();
    event_of(status, description)
}

fn event_of(status: u16, description: &str) -> Option<Event> {
    let says = |words: &str| description.to_ascii_lowercase().contains(words);
    Some(match status {
        100 => return None,
        408 if says("requests pending") => Event::Ended(End::Others),
        404 | 408 => Event::Ended(End::Done),
        409 if says("exceeds maxbytes") => Event::Ended(End::TooLarge),
        409 if says("batch completed") => Event::Ended(End::Done),
        409 if says("deleted") => Event::Orphaned,
        409 if says("leadership change") || says("server shutdown") => Event::Lost,
        409 if says("push based") => Event::Refused(Refusal::Push),
        409 if says("maxwaiting") => Event::Refused(Refusal::TooManyWaiting),
        503 => Event::Orphaned,
        _ => Event::Refused(Refusal::Other(format!("{status} {description}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_understood() {
        use End::{Done, Others, TooLarge};
        assert!(event_of(100, "Idle Heartbeat").is_none());
        for (status, description, end) in [
            (404, "No Messages", Done),
            (408, "Request Timeout", Done),
            (408, "Interest Expired", Done),
            (408, "Requests Pending", Others),
            (409, "Message Size Exceeds MaxBytes", TooLarge),
            (409, "Batch Completed", Done),
        ] {
            let event = event_of(status, description);
            assert!(
                matches!(event, Some(Event::Ended(found)) if found == end),
                "{status} {description}: {event:?}"
            );
        }
        for description in ["Leadership Change", "Server Shutdown"] {
            assert!(matches!(event_of(409, description), Some(Event::Lost)));
        }
        assert!(matches!(
            event_of(409, "Consumer Deleted"),
            Some(Event::Orphaned)
        ));
        assert!(matches!(event_of(503, ""), Some(Event::Orphaned)));
        for (status, description, refusal) in [
            (409, "Consumer is push based", Refusal::Push),
            (409, "Exceeded MaxWaiting", Refusal::TooManyWaiting),
            (
                409,
                "Exceeded MaxRequestBatch of 5",
                Refusal::Other("409 Exceeded MaxRequestBatch of 5".to_owned()),
            ),
            (
                423,
                "Nats-Pin-Id mismatch",
                Refusal::Other("423 Nats-Pin-Id mismatch".to_owned()),
            ),
        ] {
            let event = event_of(status, description);
            assert!(
                matches!(&event, Some(Event::Refused(found)) if *found == refusal),
                "{status} {description}: {event:?}"
            );
        }
    }

    #[test]
    fn an_order_is_written_as_the_server_reads_it() {
        let order = Order {
            batch: 10,
            max_bytes: Some(8),
            no_wait: true,
            expires: Duration::from_millis(50),
        };
        assert_eq!(
            serde_json::to_string(&order).unwrap(),
            r#"{"batch":10,"max_bytes":8,"no_wait":true,"expires":50000000}"#
        );
        let order = Order {
            max_bytes: None,
            no_wait: false,
            ..order
        };
        assert_eq!(
            serde_json::to_string(&order).unwrap(),
            r#"{"batch":10,"expires":50000000}"#
        );
    }
}
