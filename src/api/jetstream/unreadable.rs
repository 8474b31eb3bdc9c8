//! Stored messages that cannot be read from a consumer: their subject or headers are not what a
//! client takes, and whoever is sent one loses the connection. Any publisher can store one.
//!
//! The API brings a stored message as base64, which harms nobody, so there it can be looked at.

use async_nats::header::HeaderName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::Api;
use crate::nats::{Call, Inbound};
use crate::problem::{Code, Problem};
use crate::subject::Name;

#[derive(Deserialize)]
struct Answer {
    message: Stored,
}

#[derive(Deserialize)]
struct Stored {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
}

/// The next message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) seq: u64,
    pub(super) is_readable: bool,
}

impl Api {
    /// The next message after a sequence, with one of these subjects or at all.
    ///
    /// # Errors
    /// When JetStream does not say.
    pub(super) async fn next_stored(
        &self,
        stream: &str,
        filters: &[&str],
        after: u64,
        call: Call,
    ) -> Result<Option<Next>, Problem> {
        let verb = format!("STREAM.MSG.GET.{stream}");
        let filters = if filters.is_empty() { &[">"] } else { filters };
        let mut next: Option<Next> = None;
        for filter in filters {
            let body = json!({"seq": after.saturating_add(1), "next_by_subj": filter});
            let found = match self.read::<Answer>(&verb, &body, call).await {
                Ok(Answer { message }) => message,
                Err(problem) if problem.code() == Code::MessageNotFound => continue,
                Err(problem) => return Err(problem),
            };
            if next.is_none_or(|next| found.seq < next.seq) {
                next = Some(Next {
                    seq: found.seq,
                    is_readable: found.is_readable(),
                });
            }
        }
        Ok(next)
    }
}

/// So many of the messages that a consumer waits for are looked at.
const LOOKED_AT_MAX: usize = 256;

impl Api {
    /// The first message that a consumer has delivered, and waits for in vain.
    pub(super) async fn unreadable_of(
        &self,
        stream: &Name,
        consumer: &Name,
        call: Call,
    ) -> Option<u64> {
        let (stream, consumer) = (stream.as_str(), consumer.as_str());
        let info = self.consumer_info(stream, consumer, call).await.ok()?;
        let (mut after, last) = info.pending()?;
        let filters = info.filters();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        for _ in 0..LOOKED_AT_MAX {
            let next = self.next_stored(stream, &filters, after, call).await;
            let next = next.ok()?.filter(|next| next.seq <= last)?;
            if !next.is_readable {
                return Some(next.seq);
            }
            after = next.seq;
        }
        None
    }
}

impl Stored {
    fn is_readable(&self) -> bool {
        let headers = STANDARD.decode(&self.hdrs).unwrap_or_default();
        is_subject(&self.subject, !headers.is_empty()) && (headers.is_empty() || is_block(&headers))
    }
}

/// A subject that is not UTF-8 comes with a replacement character in it.
fn is_subject(subject: &str, has_headers: bool) -> bool {
    let is_split = |c: char| c == ' ' || (has_headers && c.is_whitespace());
    !subject.contains(is_split) && !subject.contains('\u{fffd}')
}

/// What async-nats takes for a header block, and what does not pass for a status.
fn is_block(block: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(block) else {
        return false;
    };
    let mut lines = text.lines();
    let first = lines.next().and_then(|line| line.strip_prefix("NATS/1.0"));
    if first.is_none_or(|status| !status.trim().is_empty()) {
        return false;
    }
    let mut follows = false;
    lines.filter(|line| !line.is_empty()).all(|line| {
        if line.contains('\r') {
            return false;
        }
        if follows && line.starts_with(char::is_whitespace) {
            return true;
        }
        follows = true;
        line.split_once(':')
            .is_some_and(|(name, _)| name.parse::<HeaderName>().is_ok())
    })
}

/// Whether a message is the server's word on a pull. A publisher can store a message with a status,
/// too; what comes from a stream has a subject for its ack.
pub(super) fn is_status(message: &Inbound) -> bool {
    let is_delivered = |reply: &str| reply.starts_with("$JS.ACK.");
    message.status.is_some() && !message.reply.as_deref().is_some_and(is_delivered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_connection_is_known() {
        for block in [
            &b"NATS/1.0\r\n\r\n"[..],
            b"NATS/1.0\r\nA: b\r\nC:d\r\n\r\n",
            b"NATS/1.0\r\nA:\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n folded\r\n\r\n",
            "NATS/1.0\r\nA: ü\r\n\r\n".as_bytes(),
        ] {
            assert!(is_block(block), "{:?}", String::from_utf8_lossy(block));
        }
        for block in [
            &b"NATS/1.0\r\nA: b\rc\r\n\r\n"[..],
            b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
            b"NATS/1.0\r\nnothing\r\n\r\n",
            b"NATS/1.0\r\na b: c\r\n\r\n",
            b"NATS/1.0\r\n folded\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
            b"HTTP/1.1\r\nA: b\r\n\r\n",
            b"\r\n",
        ] {
            assert!(!is_block(block), "{:?}", String::from_utf8_lossy(block));
        }
        assert!(is_subject("a.b", true));
        // Only a message with headers is split at every kind of space.
        assert!(is_subject("a\u{a0}b", false) && !is_subject("a\u{a0}b", true));
        assert!(!is_subject("a\u{b}b", true) && !is_subject("a\u{fffd}", false));
    }
}
