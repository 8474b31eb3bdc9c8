//! One pull request of a replay: some messages from a consumer of natsway's own, on an inbox that is
//! its alone.
//!
//! Nothing is acked, so what goes missing on the way is missing for good; the numbers of the consumer
//! show it, and whoever reads them begins again with a new consumer. A heartbeat tells how far the
//! consumer has looked, also where no message was for it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::consumer::Consumer;
use crate::api::jetstream::unreadable::is_status;
use crate::nats::{Call, Failure, Inbound, Outbound, Replies};

/// How long sending may take.
const SENDING: Duration = Duration::from_secs(5);
/// After so much silence somebody should ask what became of the stream: a server that deletes it does
/// not always tell those who wait.
const SILENCE: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) batch: usize,
    pub(super) max_bytes: Option<usize>,
    pub(super) expires: Duration,
    pub(super) heartbeat: Duration,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Event {
    Message(Inbound),
    /// It is quiet; this far the consumer has looked, and so many messages it has delivered.
    Heartbeat {
        looked_at: u64,
        consumer_seq: u64,
    },
    /// It has ended; another one brings more.
    Ended,
    /// It has ended because the next message alone is larger than the bytes asked for.
    TooLarge,
    /// Not even a heartbeat has come for two seconds.
    Silence,
    /// The consumer is gone, or cannot be heard.
    Broken,
}

/// The pull.
#[derive(Debug)]
pub(super) struct Pull {
    replies: Replies,
    left: usize,
    is_untouched: bool,
}

impl Pull {
    /// Sends it.
    pub(super) async fn send(consumer: &Consumer, order: Order) -> Result<Self, Failure> {
        let call = Call {
            deadline: Instant::now() + SENDING,
            wait: false,
        };
        let link = consumer.api().link();
        let replies = link.inbox(call).await?;
        let mut body = json!({
            "batch": order.batch,
            "expires": nanoseconds(order.expires),
            "idle_heartbeat": nanoseconds(order.heartbeat),
        });
        if let Some(bytes) = order.max_bytes {
            body["max_bytes"] = bytes.into();
        }
        let message = Outbound::new(consumer.next_subject(), Bytes::from(body.to_string()));
        replies.send(message, call.deadline).await?;
        Ok(Self {
            replies,
            left: order.batch,
            is_untouched: true,
        })
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Event {
        if self.left == 0 {
            return Event::Ended;
        }
        match self.replies.next(Instant::now() + SILENCE).await {
            Ok(reply) => self.read(reply.message),
            Err(Failure::Timeout) => Event::Silence,
            Err(_) => Event::Broken,
        }
    }

    /// What has happened already.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        if self.left == 0 {
            return Some(Event::Ended);
        }
        let reply = self.replies.try_next()?;
        Some(self.read(reply.message))
    }

    fn read(&mut self, message: Inbound) -> Event {
        let Some(status) = message.status.filter(|_| is_status(&message)) else {
            self.left -= 1;
            self.is_untouched = false;
            return Event::Message(message);
        };
        let description = message.description.as_deref().unwrap_or_default();
        match read_status(status.as_u16(), description) {
            Status::Heartbeat => heartbeat(&message).unwrap_or(Event::Broken),
            Status::Ended => Event::Ended,
            Status::TooLarge if self.is_untouched => Event::TooLarge,
            Status::TooLarge => Event::Ended,
            Status::Broken => Event::Broken,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Heartbeat,
    Ended,
    TooLarge,
    Broken,
}

fn read_status(status: u16, description: &str) -> Status {
    let says = |words: &str| description.to_ascii_lowercase().contains(words);
    match status {
        100 => Status::Heartbeat,
        404 | 408 => Status::Ended,
        409 if says("batch completed") => Status::Ended,
        409 if says("exceeds maxbytes") => Status::TooLarge,
        _ => Status::Broken,
    }
}

fn heartbeat(message: &Inbound) -> Option<Event> {
    let headers = message.headers.as_ref()?;
    let number = |name: &str| headers.get(name)?.as_str().parse().ok();
    Some(Event::Heartbeat {
        looked_at: number("Nats-Last-Stream")?,
        consumer_seq: number("Nats-Last-Consumer")?,
    })
}

#[cfg(test)]
mod tests {
    use async_nats::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn every_status_is_understood() {
        for (status, description, meaning) in [
            (100, "Idle Heartbeat", Status::Heartbeat),
            (404, "No Messages", Status::Ended),
            (408, "Request Timeout", Status::Ended),
            (409, "Batch Completed", Status::Ended),
            (409, "Message Size Exceeds MaxBytes", Status::TooLarge),
            (409, "Consumer Deleted", Status::Broken),
            (409, "Leadership Change", Status::Broken),
            (409, "Server Shutdown", Status::Broken),
            (503, "", Status::Broken),
            (999, "whatever comes next", Status::Broken),
        ] {
            assert_eq!(
                read_status(status, description),
                meaning,
                "{status} {description}"
            );
        }
    }

    #[test]
    fn a_heartbeat_says_how_far_the_consumer_has_looked() {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Last-Consumer", "3");
        headers.insert("Nats-Last-Stream", "41");
        let mut message = Inbound {
            subject: "a".into(),
            reply: None,
            payload: Bytes::new(),
            headers: Some(headers),
            status: StatusCode::from_u16(100).ok(),
            description: None,
            length: 0,
        };
        assert!(matches!(
            heartbeat(&message),
            Some(Event::Heartbeat {
                looked_at: 41,
                consumer_seq: 3
            })
        ));
        message.headers = None;
        assert!(heartbeat(&message).is_none());
    }
}
