//! What the server sends: one JSON object a text frame.

use bytes::Bytes;

use super::frame::Id;
use crate::api::jetstream::PubAck;
use crate::api::notice::Notice;
use crate::nats::Inbound;
use crate::problem::Problem;
use crate::translate::envelope::{Encoding, Envelope};

/// `{"op":…,"id":…`, to go on from.
pub(super) fn begin(op: &str, id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(op.as_bytes());
    out.extend_from_slice(b"\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out
}

/// Done.
pub(super) fn ok(id: &str) -> Bytes {
    let mut out = begin("ok", id);
    out.push(b'}');
    out.into()
}

/// Stored by a stream.
pub(super) fn stored(id: &str, ack: &PubAck) -> Bytes {
    let mut out = begin("ok", id);
    let stream = serde_json::Value::from(ack.stream.as_str());
    let (seq, duplicate) = (ack.seq, ack.duplicate);
    let ack = format!(",\"stream\":{stream},\"seq\":{seq},\"duplicate\":{duplicate}}}");
    out.extend_from_slice(ack.as_bytes());
    out.into()
}

/// The reply to a request.
pub(super) fn reply(id: &str, reply: &Inbound) -> Bytes {
    let mut out = begin("reply", id);
    out.push(b',');
    let envelope = Envelope {
        subject: &reply.subject,
        headers: reply.headers.as_ref(),
        payload: &reply.payload,
        encoding: Encoding::Auto,
        jetstream: None,
    };
    envelope.write_members(&mut out);
    out.push(b'}');
    out.into()
}

/// A message of a subscription; `envelope` is an object that is not empty.
pub(super) fn message(id: &str, envelope: &[u8]) -> Bytes {
    let mut out = begin("message", id);
    out.push(b',');
    out.extend_from_slice(&envelope[1..]);
    out.into()
}

/// A gap or the end of a subscription.
pub(super) fn notice(id: &str, notice: &Notice) -> Bytes {
    let mut out = begin(notice.name(), id);
    out.push(b',');
    notice.write_members(&mut out);
    out.push(b'}');
    out.into()
}

/// What went wrong. `request_id` is that of the handshake.
pub(super) fn error(id: Option<&Id>, problem: &Problem, request_id: Option<&str>) -> Bytes {
    let mut out = match id {
        Some(id) => begin("error", id),
        None => b"{\"op\":\"error\"".to_vec(),
    };
    out.extend_from_slice(b",\"problem\":");
    out.extend_from_slice(problem.to_text(request_id).as_bytes());
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::notice::Gap;
    use crate::problem::Code;

    #[test]
    fn frames_are_what_the_contract_shows() {
        assert_eq!(ok("7"), r#"{"op":"ok","id":7}"#);
        let ack = PubAck {
            stream: "ORDERS".to_owned(),
            seq: 3,
            duplicate: true,
            domain: None,
        };
        assert_eq!(
            stored("7", &ack),
            r#"{"op":"ok","id":7,"stream":"ORDERS","seq":3,"duplicate":true}"#
        );
        assert_eq!(
            message("\"a\"", br#"{"subject":"s","encoding":"json","data":1}"#),
            r#"{"op":"message","id":"a","subject":"s","encoding":"json","data":1}"#
        );
        let gap = Notice::Gap(Gap::unknown("reconnected"));
        assert_eq!(
            notice("\"a\"", &gap),
            r#"{"op":"gap","id":"a","dropped":null,"reason":"reconnected"}"#
        );
        let problem = Problem::new(Code::NoResponders);
        let text = error(Some(&"\"a\"".into()), &problem, Some("r-1"));
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["op"], "error");
        assert_eq!(json["id"], "a");
        assert_eq!(json["problem"]["code"], "no-responders");
        assert_eq!(json["problem"]["request_id"], "r-1");
        let json: serde_json::Value = serde_json::from_slice(&error(None, &problem, None)).unwrap();
        assert_eq!(json.get("id"), None);
    }
}
