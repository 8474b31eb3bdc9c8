//! Headers between HTTP and NATS.
//!
//! A header that steers NATS (`Nats-*`, `KV-Operation`, `Status`) is a right of its own: one of them
//! purges a stream, another publishes elsewhere later. No client can set one; what is harmless has a
//! parameter. Only constructors that return errors are used on the way in: async-nats' convenient
//! ones panic on bad input.

mod block;
mod inbound;
mod json;
mod outbound;
mod rules;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};

pub use block::from_block;
pub use inbound::{forget_context, forget_trace, to_nats, to_nats_bound, traceparent_of};
pub use json::JsonHeaders;
pub use outbound::{TRUNCATED, to_http, traceparent_in};
pub use rules::Rules;

/// The most headers that are mapped, either way.
pub const HEADERS_MAX: usize = 64;

/// The most bytes of headers that are mapped, either way, as they are on the wire.
pub const HEADERS_BYTES_MAX: usize = 8 * 1024;

/// The longest `Idempotency-Key`.
pub const MESSAGE_ID_MAX: usize = 256;

/// What marks an HTTP header as a NATS header, in lower case.
pub const PREFIX: &str = "natsh-";

/// What is wrong with a header that a client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header that steers NATS.
    #[error("the header `{name}` may not be set{}", hint(*.instead))]
    NotAllowed {
        /// The NATS header as the client wrote it.
        name: String,
        /// The parameter that does it, where there is one.
        instead: Option<&'static str>,
    },
    /// A name or value that NATS headers cannot carry.
    #[error("the header `{name}` {why}")]
    Invalid {
        /// The header.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than [`HEADERS_MAX`] or [`HEADERS_BYTES_MAX`].
    #[error("more than {HEADERS_MAX} headers or {HEADERS_BYTES_MAX} bytes of headers")]
    TooLarge,
}

fn hint(parameter: Option<&'static str>) -> String {
    parameter.map_or_else(
        || "; it steers NATS".to_owned(),
        |parameter| format!("; use {parameter}"),
    )
}

/// The bytes that the headers take in a NATS message; `max_payload` counts them.
#[must_use]
pub fn wire_len(headers: Option<&HeaderMap>) -> usize {
    let Some(headers) = headers.filter(|headers| !headers.is_empty()) else {
        return 0;
    };
    let lines: usize = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(|value| line_len(name, value)))
        .sum();
    "NATS/1.0\r\n".len() + lines + "\r\n".len()
}

fn line_len(name: &HeaderName, value: &HeaderValue) -> usize {
    AsRef::<str>::as_ref(name).len() + value.as_str().len() + ": \r\n".len()
}

/// Whether there are no more than a message may have, once all have been put together.
///
/// # Errors
///
/// When there are more than [`HEADERS_MAX`] or [`HEADERS_BYTES_MAX`].
pub fn check(headers: Option<&HeaderMap>) -> Result<(), HeaderError> {
    let values = headers.into_iter().flat_map(HeaderMap::iter);
    let (mut count, mut bytes) = (0, 0);
    for (name, values) in values {
        count += values.len();
        bytes += values
            .iter()
            .map(|value| line_len(name, value))
            .sum::<usize>();
    }
    match count > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        true => Err(HeaderError::TooLarge),
        false => Ok(()),
    }
}

/// Puts a message id under `Nats-Msg-Id`, as `Idempotency-Key` and a batch line's `msg_id` do.
///
/// # Errors
///
/// When the id is not 1 to 256 visible ASCII characters, or one header too many.
pub fn set_message_id(
    headers: &mut Option<HeaderMap>,
    prefix: Option<&str>,
    id: &str,
    called: &str,
) -> Result<(), HeaderError> {
    let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
    if id.is_empty() || id.len() > MESSAGE_ID_MAX || !visible {
        return Err(HeaderError::Invalid {
            name: called.to_owned(),
            why: "is not 1 to 256 visible ASCII characters",
        });
    }
    let value = match prefix {
        Some(prefix) => nats_value(called, &format!("{prefix}{id}"))?,
        None => nats_value(called, id)?,
    };
    headers
        .get_or_insert_default()
        .insert(async_nats::header::NATS_MESSAGE_ID, value);
    check(headers.as_ref())
}

/// A client's header as a NATS header name: a token of RFC 9110 that does not steer NATS.
fn nats_name(name: &str) -> Result<HeaderName, HeaderError> {
    if is_steering(name) {
        return Err(HeaderError::NotAllowed {
            name: name.to_owned(),
            instead: parameter_for(name),
        });
    }
    let invalid = || HeaderError::Invalid {
        name: name.to_owned(),
        why: "has a name that is no HTTP token",
    };
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(invalid());
    }
    name.parse().map_err(|_| invalid())
}

fn nats_value(name: &str, value: &str) -> Result<HeaderValue, HeaderError> {
    let invalid = || HeaderError::Invalid {
        name: name.to_owned(),
        why: "has a value with a control character",
    };
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
    let is_control = |c: char| c.is_control() && c != '\t';
    if !value.as_bytes().iter().all(is_plain) && value.chars().any(is_control) {
        return Err(invalid());
    }
    value.parse().map_err(|_| invalid())
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether the header steers NATS, in any spelling. The server compares exactly, but other clients
/// and later servers may not.
fn is_steering(name: &str) -> bool {
    starts_with_ignore_case(name, "nats-")
        || name.eq_ignore_ascii_case("kv-operation")
        || name.eq_ignore_ascii_case("status")
}

fn starts_with_ignore_case(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn parameter_for(name: &str) -> Option<&'static str> {
    const PARAMETERS: [(&str, &str); 5] = [
        (
            "nats-msg-id",
            "`Idempotency-Key` (`msg_id` in a batch line)",
        ),
        (
            "nats-expected-stream",
            "the query parameter `expect_stream`",
        ),
        (
            "nats-expected-last-sequence",
            "the query parameter `expect_last_seq`",
        ),
        (
            "nats-expected-last-subject-sequence",
            "the query parameter `expect_last_subject_seq`",
        ),
        ("nats-ttl", "the query parameter `ttl`"),
    ];
    PARAMETERS
        .iter()
        .find(|(header, _)| name.eq_ignore_ascii_case(header))
        .map(|(_, parameter)| *parameter)
}

/// NATS headers in the making, within the limits.
#[derive(Default)]
struct Mapped {
    headers: Option<HeaderMap>,
    count: usize,
    bytes: usize,
}

impl Mapped {
    fn has(&self, name: &HeaderName) -> bool {
        let headers = self.headers.as_ref();
        headers.is_some_and(|headers| headers.get(name.clone()).is_some())
    }

    fn push(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeaderError> {
        self.count += 1;
        self.bytes += line_len(&name, &value);
        if self.count > HEADERS_MAX || self.bytes > HEADERS_BYTES_MAX {
            return Err(HeaderError::TooLarge);
        }
        self.headers.get_or_insert_default().append(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_length_is_what_the_client_writes() {
        assert_eq!(wire_len(None), 0);
        assert_eq!(wire_len(Some(&HeaderMap::new())), 0);
        let mut headers = HeaderMap::new();
        headers.append("A", "1");
        headers.append("A", "22");
        let wire = "NATS/1.0\r\nA: 1\r\nA: 22\r\n\r\n";
        assert_eq!(wire_len(Some(&headers)), wire.len());
    }

    #[test]
    fn steering_headers_are_known_in_any_spelling() {
        for name in [
            "Nats-Rollup",
            "nats-rollup",
            "NATS-X",
            "KV-Operation",
            "kv-operation",
            "STATUS",
        ] {
            assert!(
                matches!(nats_name(name), Err(HeaderError::NotAllowed { .. })),
                "{name}"
            );
        }
        for name in ["Natsx", "X-Nats-Y", "Status-Code", "n\u{e4}ts-x"] {
            assert!(!is_steering(name), "{name}");
        }
    }

    #[test]
    fn headers_that_are_put_together_have_the_same_limits() {
        let mut headers = HeaderMap::new();
        for number in 0..HEADERS_MAX {
            headers.append("A", number.to_string().as_str());
        }
        assert_eq!(check(Some(&headers)), Ok(()));
        let mut full = Some(headers);
        let one_more = set_message_id(&mut full, None, "k", "msg_id");
        assert_eq!(one_more, Err(HeaderError::TooLarge));
        let mut large = HeaderMap::new();
        large.insert(
            "A",
            "x".repeat(HEADERS_BYTES_MAX - "A: \r\n".len()).as_str(),
        );
        assert_eq!(check(Some(&large)), Ok(()));
        large.insert("B", "");
        assert_eq!(check(Some(&large)), Err(HeaderError::TooLarge));
        assert_eq!(check(None), Ok(()));
    }

    #[test]
    fn a_message_id_is_taken_byte_for_byte() {
        let mut headers = None;
        set_message_id(&mut headers, Some("orders:"), "k~1", "Idempotency-Key").unwrap();
        let id = headers.unwrap().get("Nats-Msg-Id").unwrap().clone();
        assert_eq!(id.as_str(), "orders:k~1");
        for bad in ["", "a b", "\u{e4}", "a\n", &"k".repeat(257)] {
            assert!(
                set_message_id(&mut None, None, bad, "msg_id").is_err(),
                "{bad:?}"
            );
        }
        assert!(set_message_id(&mut None, None, &"k".repeat(256), "msg_id").is_ok());
    }
}
