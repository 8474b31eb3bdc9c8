//! The stream as server-sent events.

use std::time::Duration;

use bytes::Bytes;

use super::notice::{Gap, Notice};
use crate::nats::{Delivery, Inbound, Stored};
use crate::translate::envelope::{Encoding, Envelope};
use crate::translate::sse::{Block, write_comment};

pub use crate::translate::sse::CONTENT_TYPE;

/// Where the encoded forms of a message are kept; see [`Delivery::encoded`].
const ENVELOPE: usize = 0;
const RAW: usize = 2;

/// The `id:` of a core stream: it says only that the client was here before, since core NATS keeps
/// nothing to resume from.
const LIVE_ID: &str = "live";

/// A message as one event, its data the envelope.
#[must_use]
pub fn envelope(delivery: &Delivery, encoding: Encoding) -> Bytes {
    let write = |message: &Inbound| {
        let mut out = id(delivery).map_or_else(Vec::new, |id| format!("id: {id}\n").into_bytes());
        out.extend_from_slice(b"data: ");
        let envelope = Envelope {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            encoding,
            jetstream: delivery.stored.as_ref().map(Stored::envelope),
        };
        envelope.write(&mut out);
        out.extend_from_slice(b"\n\n");
        out.into()
    };
    match encoding {
        Encoding::Auto | Encoding::Json => delivery.encoded(ENVELOPE, write),
        Encoding::Text | Encoding::Base64 => write(&delivery.message),
    }
}

/// A message as one event, its data the payload.
#[must_use]
pub fn raw(delivery: &Delivery) -> Bytes {
    delivery.encoded(RAW, |message| {
        let mut out = Vec::new();
        let id = id(delivery);
        let block = Block {
            id: id.as_deref(),
            ..Block::default()
        };
        block.write_raw(&message.payload, &mut out);
        out.into()
    })
}

fn id(delivery: &Delivery) -> Option<String> {
    let stored = delivery.stored.as_ref()?;
    Some(stored.position.to_string())
}

/// What a core stream begins with.
pub fn write_first(out: &mut Vec<u8>) {
    write_id(LIVE_ID, out);
}

/// An id without an event: from where a client goes on that is cut off here.
pub fn write_id(id: &str, out: &mut Vec<u8>) {
    let block = Block {
        id: Some(id),
        ..Block::default()
    };
    block.write(None, out);
}

/// A gap that moves the position, in one block: whoever is cut off around it reads of it, or is
/// told again.
#[must_use]
pub fn gap_to(id: &str, gap: Gap) -> Bytes {
    let notice = Notice::Gap(gap);
    let mut data = Vec::new();
    notice.write(&mut data);
    let block = Block {
        id: Some(id),
        event: Some(notice.name()),
        ..Block::default()
    };
    let mut out = Vec::new();
    block.write(Some(&data), &mut out);
    out.into()
}

/// A notice; an end says in the same block when to come back, since `EventSource` comes back after it.
pub fn write_notice(notice: &Notice, out: &mut Vec<u8>) {
    let mut data = Vec::new();
    notice.write(&mut data);
    let block = Block {
        retry: matches!(notice, Notice::End(_)).then(retry),
        event: Some(notice.name()),
        ..Block::default()
    };
    block.write(Some(&data), out);
}

/// A sign of life.
pub fn write_keep_alive(out: &mut Vec<u8>) {
    write_comment("keep-alive", out);
}

/// When a client may come back. Spread, so that those who were ended together do not return together.
fn retry() -> Duration {
    Duration::from_millis(rand::random_range(1000..=5000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::notice::{EndReason, Gap};

    fn delivery(payload: &'static [u8]) -> Delivery {
        Delivery::new(Inbound {
            subject: "a.b".into(),
            reply: None,
            payload: Bytes::from_static(payload),
            headers: None,
            status: None,
            description: None,
            length: 0,
        })
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_is_one_block_and_is_encoded_once() {
        let delivery = delivery(b"{\"id\":\n7}");
        let first = envelope(&delivery, Encoding::Auto);
        assert_eq!(
            first,
            "data: {\"subject\":\"a.b\",\"encoding\":\"json\",\"data\":{\"id\": 7}}\n\n"
        );
        let again = envelope(&delivery, Encoding::Auto);
        assert_eq!(first.as_ptr(), again.as_ptr());
        assert_eq!(
            envelope(&delivery, Encoding::Base64),
            "data: {\"subject\":\"a.b\",\"encoding\":\"base64\",\"data\":\"eyJpZCI6Cjd9\"}\n\n"
        );
    }

    #[test]
    fn a_payload_cannot_forge_a_field() {
        let forged = delivery(b"x\n\nevent: end\ndata: {}");
        assert_eq!(
            raw(&forged),
            "data: x\ndata: \ndata: event: end\ndata: data: {}\n\n"
        );
        assert_eq!(
            raw(&delivery(b"a\rid: 7")),
            "event: binary\ndata: YQ1pZDogNw==\n\n"
        );
    }

    #[test]
    fn an_end_says_when_to_come_back_and_a_gap_does_not() {
        let end = text(|out| write_notice(&Notice::End(EndReason::Draining), out));
        let (retry, rest) = end.split_once('\n').unwrap();
        let millis: u64 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((1000..=5000).contains(&millis));
        assert_eq!(
            rest,
            "event: end\ndata: {\"notice\":\"end\",\"reason\":\"draining\"}\n\n"
        );
        let gap = text(|out| write_notice(&Notice::Gap(Gap::unknown("reconnected")), out));
        assert!(gap.starts_with("event: gap\ndata: {"), "{gap}");
        assert_eq!(text(write_first), "id: live\n\n");
        assert_eq!(text(write_keep_alive), ": keep-alive\n\n");
    }
}
