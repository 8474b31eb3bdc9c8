//! One NATS message as one line of JSON.

use async_nats::header::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::json::{embeddable, write_string};

/// How a payload stands in an envelope.
///
/// What was asked for is kept where the payload allows it. A payload that is no JSON is then sent as
/// text, one that is no UTF-8 as base64; the `encoding` member always says what it became.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON, else text, else base64.
    #[default]
    Auto,
    /// The same as [`Self::Auto`] for a receiver that expects JSON.
    Json,
    /// A string, else base64.
    Text,
    /// Always base64.
    Base64,
}

impl std::str::FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            "base64" => Ok(Self::Base64),
            _ => Err(UnknownEncoding),
        }
    }
}

/// The word is none of the encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encoding is `auto`, `json`, `text` or `base64`")]
pub struct UnknownEncoding;

/// What JetStream knows of a message.
#[derive(Clone, Copy, Debug)]
pub struct JetStream<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// The sequence in the stream.
    pub seq: u64,
    /// When it was stored.
    pub time: OffsetDateTime,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// How many are still to come.
    pub pending: u64,
    /// The token that acks it, where it can be acked.
    pub ack: Option<&'a str>,
}

/// What goes into an envelope.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The subject as it was delivered; it may be one that natsway itself would refuse.
    pub subject: &'a str,
    /// The message's headers.
    pub headers: Option<&'a HeaderMap>,
    /// The payload, byte for byte.
    pub payload: &'a [u8],
    /// What the receiver asked for.
    pub encoding: Encoding,
    /// Where it came from a stream.
    pub jetstream: Option<JetStream<'a>>,
}

impl Envelope<'_> {
    /// Appends the envelope: one JSON object without a line break.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out);
        out.push(b'}');
    }

    /// Appends the members only, for an object that has members of its own before them.
    pub fn write_members(&self, out: &mut Vec<u8>) {
        out.reserve(self.payload.len() + self.subject.len() + 96);
        out.extend_from_slice(b"\"subject\":");
        write_string(self.subject, out);
        if let Some(headers) = self.headers {
            write_headers(headers, out);
        }
        write_payload(self.payload, self.encoding, out);
        if let Some(jetstream) = &self.jetstream {
            write_jetstream(jetstream, out);
        }
    }
}

fn write_headers(headers: &HeaderMap, out: &mut Vec<u8>) {
    // They lie in a map, and the same message looks the same each time.
    let present = headers.iter().filter(|(_, values)| !values.is_empty());
    let mut sorted: Vec<(&str, _)> = present
        .map(|(name, values)| (name.as_ref(), values))
        .collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let mut before = &b",\"headers\":{"[..];
    for (name, values) in sorted {
        out.extend_from_slice(before);
        write_string(name, out);
        let mut separator = &b":["[..];
        for value in values {
            out.extend_from_slice(separator);
            write_string(value.as_str(), out);
            separator = b",";
        }
        out.push(b']');
        before = b",";
    }
    if before == b"," {
        out.push(b'}');
    }
}

/// Appends a payload as the members `encoding` and `data`, a comma before each.
pub fn write_payload(payload: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
    let text = match encoding {
        Encoding::Base64 => None,
        Encoding::Auto | Encoding::Json | Encoding::Text => std::str::from_utf8(payload).ok(),
    };
    match text {
        None => {
            out.extend_from_slice(b",\"encoding\":\"base64\",\"data\":\"");
            write_base64(payload, out);
            out.push(b'"');
        }
        Some(text) if encoding != Encoding::Text && embeddable(text) => {
            out.extend_from_slice(b",\"encoding\":\"json\",\"data\":");
            write_json(payload, out);
        }
        Some(text) => {
            out.extend_from_slice(b",\"encoding\":\"text\",\"data\":");
            write_string(text, out);
        }
    }
}

/// Line breaks would end a line of NDJSON or SSE. In valid JSON they stand between tokens only, where
/// a space says the same.
fn write_json(payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(payload);
    let mut rest = &mut out[start..];
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("the room was just made");
}

fn write_jetstream(jetstream: &JetStream<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"stream\":");
    write_string(jetstream.stream, out);
    write_number("seq", jetstream.seq, out);
    // A stream's times are between 1678 and 2262, all of which RFC 3339 can write.
    if let Ok(time) = jetstream.time.format(&Rfc3339) {
        out.extend_from_slice(b",\"time\":");
        write_string(&time, out);
    }
    write_number("delivered", jetstream.delivered, out);
    write_number("pending", jetstream.pending, out);
    if let Some(ack) = jetstream.ack {
        out.extend_from_slice(b",\"ack\":");
        write_string(ack, out);
    }
}

fn write_number(name: &str, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests;
