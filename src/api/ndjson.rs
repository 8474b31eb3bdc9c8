//! The stream as lines of JSON.

use bytes::Bytes;

use super::notice::Notice;
use crate::nats::{Delivery, Inbound, Stored};
use crate::translate::envelope::{Encoding, Envelope};

/// The media type of the stream.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Where the encoded form of a message is kept; see [`Delivery::encoded`].
const LINE: usize = 1;

/// A message as one line, its end included.
#[must_use]
pub fn line(delivery: &Delivery, encoding: Encoding) -> Bytes {
    let write = |message: &Inbound| {
        let mut out = Vec::new();
        let envelope = Envelope {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            encoding,
            jetstream: delivery.stored.as_ref().map(Stored::envelope),
        };
        envelope.write(&mut out);
        out.push(b'\n');
        out.into()
    };
    match encoding {
        Encoding::Auto | Encoding::Json => delivery.encoded(LINE, write),
        Encoding::Text | Encoding::Base64 => write(&delivery.message),
    }
}

/// A message as one JSON object without the end of the line: a WebSocket's frame. Shares the bytes of
/// the [`line()`].
#[must_use]
pub fn object(delivery: &Delivery, encoding: Encoding) -> Bytes {
    let line = line(delivery, encoding);
    line.slice(..line.len() - 1)
}

/// A notice.
pub fn write_notice(notice: &Notice, out: &mut Vec<u8>) {
    notice.write(out);
    out.push(b'\n');
}

/// A sign of life: white space before the next object, and no empty line for readers that count lines.
pub fn write_keep_alive(out: &mut Vec<u8>) {
    out.push(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_a_frame_share_their_bytes() {
        let delivery = Delivery::new(Inbound {
            subject: "a".into(),
            reply: None,
            payload: Bytes::from_static(b"x\ny"),
            headers: None,
            status: None,
            description: None,
            length: 0,
        });
        let line = line(&delivery, Encoding::Auto);
        let object = object(&delivery, Encoding::Auto);
        assert_eq!(object, r#"{"subject":"a","encoding":"text","data":"x\ny"}"#);
        assert_eq!(line, [&object[..], b"\n"].concat());
        assert_eq!(line.as_ptr(), object.as_ptr());
    }
}
