//! The reply subject of a message from JetStream, taken apart and put together again.
//!
//! `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>`, and a later form
//! with domain and account before the stream and possibly more at the end.

use std::fmt;

use time::OffsetDateTime;

use super::Ack;

const PREFIX: &str = "$JS.ACK.";

/// delivered, sequence in the stream, sequence in the consumer, time, pending
pub(super) type Numbers = [u64; 5];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) domain: Option<(&'a str, &'a str)>,
    pub(super) stream: &'a str,
    pub(super) consumer: &'a str,
    pub(super) numbers: Numbers,
    /// What a later server may append.
    pub(super) tail: &'a str,
}

impl<'a> Reply<'a> {
    /// `None` where the parts would not make the same subject again.
    pub(super) fn parse(subject: &'a str) -> Option<Self> {
        let parts = subject.strip_prefix(PREFIX)?;
        if !parts.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let count = parts.split('.').count();
        let mut rest = parts.splitn(10, '.');
        let domain = match count {
            7 => None,
            9.. => Some((rest.next()?, rest.next()?)),
            _ => return None,
        };
        let (stream, consumer) = (rest.next()?, rest.next()?);
        let mut numbers = Numbers::default();
        for number in &mut numbers {
            *number = rest.next()?.parse().ok()?;
        }
        let reply = Self {
            domain,
            stream,
            consumer,
            numbers,
            tail: rest.next().unwrap_or_default(),
        };
        (reply.to_string() == subject).then_some(reply)
    }

    pub(super) fn to_ack(self, expires_at: u64) -> Ack {
        Ack {
            reply: self.to_string().into(),
            stream: self.stream.to_owned(),
            consumer: self.consumer.to_owned(),
            delivered: self.numbers[0],
            seq: self.numbers[1],
            expires_at,
        }
    }
}

impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        if let Some((domain, account)) = self.domain {
            write!(f, "{domain}.{account}.")?;
        }
        write!(f, "{}.{}", self.stream, self.consumer)?;
        for number in self.numbers {
            write!(f, ".{number}")?;
        }
        match self.tail {
            "" => Ok(()),
            tail => write!(f, ".{tail}"),
        }
    }
}

/// What the reply subject of a delivered message says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// The stream that holds the message.
    pub stream: &'a str,
    /// The consumer that delivered it.
    pub consumer: &'a str,
    /// Which delivery of the message this is.
    pub delivered: u64,
    /// The message's sequence in the stream.
    pub seq: u64,
    /// The delivery's sequence in the consumer.
    pub consumer_seq: u64,
    /// When the message was stored.
    pub time: OffsetDateTime,
    /// How many are still to come.
    pub pending: u64,
}

impl<'a> Delivered<'a> {
    /// Reads a reply subject; nothing where it is not that of a message from JetStream.
    #[must_use]
    pub fn parse(reply: &'a str) -> Option<Self> {
        let Reply {
            stream,
            consumer,
            numbers: [delivered, seq, consumer_seq, nanoseconds, pending],
            ..
        } = Reply::parse(reply)?;
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into()).ok()?;
        Some(Self {
            stream,
            consumer,
            delivered,
            seq,
            consumer_seq,
            time,
            pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivered, Reply};

    #[test]
    fn a_reply_subject_says_when_and_how_often() {
        let reply = "$JS.ACK.ORDERS.worker.2.42.7.1700000000000000000.3";
        let delivered = Delivered::parse(reply).unwrap();
        assert_eq!((delivered.stream, delivered.consumer), ("ORDERS", "worker"));
        assert_eq!((delivered.delivered, delivered.seq), (2, 42));
        assert_eq!((delivered.consumer_seq, delivered.pending), (7, 3));
        assert_eq!(delivered.time.unix_timestamp(), 1_700_000_000);
        assert_eq!(Delivered::parse("_INBOX.x.1"), None);
    }

    #[test]
    fn both_forms_are_taken_apart_and_put_together() {
        for subject in [
            "$JS.ACK.ORDERS.worker.1.42.7.1700000000123456789.0",
            "$JS.ACK.hub.ACCHASH.ORDERS.worker.1.42.7.1700000000123456789.0",
            "$JS.ACK._.ACCHASH.ORDERS.worker.1.42.7.1700000000123456789.0.r4nd0m",
            "$JS.ACK._.ACCHASH.ORDERS.worker.1.42.7.1700000000123456789.0.r4nd0m.more",
        ] {
            let reply = Reply::parse(subject).unwrap();
            assert_eq!((reply.stream, reply.consumer), ("ORDERS", "worker"));
            assert_eq!(reply.numbers[1], 42);
            assert_eq!(reply.to_string(), subject);
        }
    }

    #[test]
    fn other_subjects_are_refused() {
        for subject in [
            "",
            "orders.created",
            "$JS.API.STREAM.DELETE.ORDERS",
            "$JS.ACK.ORDERS.worker",
            "$JS.ACK.ORDERS.worker.1.42.7.x.0",
            "$JS.ACK.ORDERS.worker.1.042.7.1.0",
            "$JS.ACK.ORDERS.worker.1.42.7.-1.0",
            "$JS.ACK.ORDERS.worker.1.42.7.1.0.x",
            "$JS.ACK.OR DERS.worker.1.42.7.1.0",
            "$JS.ACK.a.b.ORDERS.worker.1.42.7.1.0.",
            "x.$JS.ACK.ORDERS.worker.1.42.7.1.0",
        ] {
            assert_eq!(Reply::parse(subject), None, "{subject}");
        }
    }
}
