//! NATS subjects, parsed once.
//!
//! Everything that reaches a NATS connection as a subject passes through these types. A NATS
//! connection is shared by all clients, and its protocol is lines of text: a blank or a line break in
//! a subject is a second command, an over-long one closes the connection for everybody. So the rules
//! are stricter than the server's: printable ASCII, no empty token, at most [`SUBJECT_MAX`] bytes.

macro_rules! text_serde {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

mod name;
mod pattern;
mod policy;
mod template;

use std::fmt;
use std::hash::{Hash, Hasher};

pub use name::{NAME_MAX, Name, NameError};
pub use pattern::SubjectPattern;
pub use policy::SubjectPolicy;
pub use template::{SubjectTemplate, Template, TemplateError};

/// The longest subject in bytes. The server closes a connection whose control line exceeds 4096
/// bytes, and does not announce that limit; this stays far below with a reply subject beside it.
pub const SUBJECT_MAX: usize = 512;

/// Why a text is no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing at all.
    #[error("the subject is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("the subject is longer than {limit} bytes")]
    TooLong {
        /// The most bytes allowed.
        limit: usize,
    },
    /// `*` or `>` where one literal subject is needed.
    #[error("the subject holds a wildcard (`*` or `>`) where one literal subject is needed")]
    Wildcard,
    /// A byte that is not printable ASCII, or a wildcard that is not a whole token in its place.
    #[error("the byte at position {position} is not allowed in a subject")]
    Illegal {
        /// Counted in bytes from 0.
        position: usize,
    },
    /// `%2A` or `%3E`, where a text from a URL was to be percent-encoded once.
    #[error(
        "the subject holds a wildcard that was percent-encoded twice (`%2A` or `%3E` after decoding): encode it once"
    )]
    EncodedTwice,
    /// A leading, trailing or doubled dot.
    #[error("the subject has an empty token (a dot at its start or end, or two in a row)")]
    EmptyToken,
    /// A captured value that is missing or not one legal token.
    #[error("the value of `{{{name}}}` is not one legal subject token")]
    Capture {
        /// The capture's name in the template.
        name: String,
    },
}

/// One literal subject: what a message is sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject(async_nats::Subject);

impl Subject {
    /// Checks and takes over a text that is already percent-decoded.
    ///
    /// # Errors
    ///
    /// Says what is wrong and, for an illegal byte, where.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        check(text, Wildcards::Refused)?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The same subject for the NATS client; shares the bytes.
    #[must_use]
    pub fn to_nats(&self) -> async_nats::Subject {
        self.0.clone()
    }

    /// The same, where nobody needs it any more.
    #[must_use]
    pub fn into_nats(self) -> async_nats::Subject {
        self.0
    }

    /// The part before the first dot.
    #[must_use]
    pub fn first_token(&self) -> &str {
        first_token(self.as_str())
    }

    /// The pattern that matches only this subject.
    #[must_use]
    pub fn to_pattern(&self) -> SubjectPattern {
        SubjectPattern::from_checked(self.0.clone())
    }
}

impl Hash for Subject {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Subject {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::str::FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

text_serde!(Subject, SubjectPattern, SubjectTemplate);

/// Whether `*` and `>` may be tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Refused,
    WholeTokens,
}

fn check(text: &str, wildcards: Wildcards) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > SUBJECT_MAX {
        return Err(SubjectError::TooLong { limit: SUBJECT_MAX });
    }
    let bytes = text.as_bytes();
    let mut token_start = 0;
    for (position, &byte) in bytes.iter().enumerate() {
        match byte {
            b'.' if position == token_start => return Err(SubjectError::EmptyToken),
            b'.' => token_start = position + 1,
            b'*' | b'>' if wildcards == Wildcards::Refused => return Err(SubjectError::Wildcard),
            b'*' | b'>' if !is_whole_token(bytes, token_start, position) => {
                return Err(SubjectError::Illegal { position });
            }
            0x21..=0x7e => {}
            _ => return Err(SubjectError::Illegal { position }),
        }
    }
    if token_start == bytes.len() {
        return Err(SubjectError::EmptyToken);
    }
    Ok(())
}

/// Refuses what still holds a percent-encoded wildcard after a URL was decoded. NATS would take it as it
/// stands, and whoever encoded twice by mistake would publish to nobody or wait for ever.
///
/// # Errors
///
/// [`SubjectError::EncodedTwice`].
pub fn decoded_once(text: &str) -> Result<&str, SubjectError> {
    if holds_encoded_wildcard(text) {
        return Err(SubjectError::EncodedTwice);
    }
    Ok(text)
}

fn holds_encoded_wildcard(text: &str) -> bool {
    let mut codes = text.as_bytes().split(|byte| *byte == b'%').skip(1);
    codes.any(|code| matches!(code, [b'2', b'A' | b'a', ..] | [b'3', b'E' | b'e', ..]))
}

fn is_whole_token(bytes: &[u8], token_start: usize, position: usize) -> bool {
    let next = bytes.get(position + 1);
    position == token_start && (next.is_none() || (bytes[position] == b'*' && next == Some(&b'.')))
}

fn first_token(subject: &str) -> &str {
    let end = subject.bytes().position(|byte| byte == b'.');
    &subject[..end.unwrap_or(subject.len())]
}

/// The tokens as bytes: subjects are ASCII, and `str::split` is made for more than that.
fn tokens(subject: &str) -> impl Iterator<Item = &[u8]> {
    subject.as_bytes().split(|byte| *byte == b'.')
}

/// Whether the first token belongs to NATS itself (`$JS`, `$SYS`, `_INBOX`, …).
fn is_reserved(first_token: &str) -> bool {
    first_token.starts_with(['$', '_'])
}

#[cfg(test)]
mod tests;
