//! Server-sent events, byte by byte.
//!
//! A payload must not be able to forge a field, so every line of it gets its own `data: `. axum's
//! encoder panics on ids with line breaks and copies each event more than once.

use std::time::Duration;

use super::envelope::write_base64;

/// The media type of the stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// The fields beside the data of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    /// How long the client waits before it connects again.
    pub retry: Option<Duration>,
    /// The position the client resumes from.
    pub id: Option<&'a str>,
    /// The event's name; `message` without one.
    pub event: Option<&'a str>,
}

impl Block<'_> {
    /// Appends the block. Without data it only sets id and retry, and no event is dispatched.
    pub fn write(&self, data: Option<&[u8]>, out: &mut Vec<u8>) {
        if let Some(retry) = self.retry {
            let millis = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
            write_field("retry", itoa::Buffer::new().format(millis), out);
        }
        if let Some(id) = self.id {
            write_field("id", id, out);
        }
        if let Some(event) = self.event {
            write_field("event", event, out);
        }
        if let Some(data) = data {
            write_data(data, out);
        }
        out.push(b'\n');
    }

    /// Appends a payload as it is: base64 under the name `binary` where it is not UTF-8 or holds a
    /// carriage return, which a receiver would turn into a line feed.
    pub fn write_raw(&self, payload: &[u8], out: &mut Vec<u8>) {
        let is_text =
            memchr::memchr(b'\r', payload).is_none() && std::str::from_utf8(payload).is_ok();
        if is_text {
            return self.write(Some(payload), out);
        }
        let mut encoded = Vec::new();
        write_base64(payload, &mut encoded);
        let block = Block {
            event: Some("binary"),
            ..*self
        };
        block.write(Some(&encoded), out);
    }
}

/// Appends a comment, which every client ignores.
pub fn write_comment(text: &str, out: &mut Vec<u8>) {
    write_field("", text, out);
    out.push(b'\n');
}

fn write_data(data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len() + 32);
    let mut rest = data;
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { return };
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
}

/// Ids, names and comments are natsway's own words; what would end their line is left out all the
/// same, and a NUL, for which clients ignore a whole id.
fn write_field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let is_safe = |byte: &u8| !matches!(byte, b'\n' | b'\r' | b'\0');
    out.extend(value.bytes().filter(is_safe));
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
