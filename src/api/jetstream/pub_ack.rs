//! What JetStream answers to a publish.

use serde::Deserialize;

use crate::problem::{Code, JetStreamError, Problem};
use crate::subject::Name;

/// A stream has stored the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// Which one.
    pub stream: String,
    /// Under which sequence; the first one's where it is a duplicate.
    pub seq: u64,
    /// Whether the stream had it already.
    pub duplicate: bool,
    /// The JetStream domain, where there is one.
    pub domain: Option<String>,
}

/// Any answer to a publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Stored(PubAck),
    Refused(JetStreamError),
}

#[derive(Deserialize)]
struct Wire {
    error: Option<JetStreamError>,
    stream: Option<String>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    domain: Option<String>,
}

impl Answer {
    /// Reads a reply. Any service that listens on the subject can have sent it, so nothing is
    /// believed that does not look exactly like a PubAck of the expected stream.
    pub(super) fn read(payload: &[u8], expected_stream: Option<&str>) -> Result<Self, Problem> {
        let wire: Wire = serde_json::from_slice(payload).map_err(|_| {
            strange("what came back is not a PubAck: a service answers on the subject, too")
        })?;
        if let Some(error) = wire.error {
            return Ok(Self::Refused(error));
        }
        let (Some(stream), Some(seq @ 1..)) = (wire.stream, wire.seq) else {
            return Err(strange(
                "what came back is not a PubAck: it names no stream and sequence",
            ));
        };
        if Name::parse(&stream).is_err() || expected_stream.is_some_and(|name| name != stream) {
            return Err(strange("the PubAck is from another stream than expected"));
        }
        Ok(Self::Stored(PubAck {
            stream,
            seq,
            duplicate: wire.duplicate,
            domain: wire.domain.filter(|domain| !domain.is_empty()),
        }))
    }
}

fn strange(detail: &'static str) -> Problem {
    Problem::new(Code::BadReply).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str, expected: Option<&str>) -> Option<PubAck> {
        match Answer::read(text.as_bytes(), expected) {
            Ok(Answer::Stored(ack)) => Some(ack),
            _ => None,
        }
    }

    #[test]
    fn a_pub_ack_is_read() {
        let ack = stored(r#"{"stream":"ORDERS","seq":7}"#, Some("ORDERS")).unwrap();
        assert_eq!((ack.stream.as_str(), ack.seq), ("ORDERS", 7));
        assert!(!ack.duplicate && ack.domain.is_none());
        let text = r#"{"stream":"ORDERS","domain":"hub","seq":7,"duplicate":true,"val":"3"}"#;
        let ack = stored(text, None).unwrap();
        assert!(ack.duplicate);
        assert_eq!(ack.domain.as_deref(), Some("hub"));
        let refused = r#"{"error":{"code":400,"err_code":10060,"description":"x"},"stream":"ORDERS","seq":0}"#;
        let Ok(Answer::Refused(error)) = Answer::read(refused.as_bytes(), None) else {
            panic!("an error is no PubAck");
        };
        assert_eq!(error.err_code, 10060);
    }

    #[test]
    fn what_is_no_pub_ack_of_the_stream_is_a_bad_reply() {
        for (text, expected) in [
            ("", None),
            ("+OK", None),
            ("{}", None),
            ("[]", None),
            (r#"{"stream":"ORDERS"}"#, None),
            (r#"{"stream":"ORDERS","seq":0}"#, None),
            (r#"{"stream":"ORDERS","seq":-1}"#, None),
            (r#"{"stream":"ORDERS","seq":"7"}"#, None),
            (r#"{"stream":"","seq":7}"#, None),
            (r#"{"stream":"a b","seq":7}"#, None),
            (r#"{"seq":7}"#, None),
            (r#"{"stream":"OTHER","seq":7}"#, Some("ORDERS")),
        ] {
            let problem = Answer::read(text.as_bytes(), expected).unwrap_err();
            assert_eq!(problem.code(), Code::BadReply, "{text}");
        }
    }
}
