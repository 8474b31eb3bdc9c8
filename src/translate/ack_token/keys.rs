//! The keys that sign ack tokens.

use std::fmt;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const KEY_BYTES: usize = 32;
const ID_MAX: usize = 32;

/// Why a key file is of no use. Says the line, never what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A line that is no key.
    #[error(
        "line {line} is not `<id>:<64 hex digits>` (the id: 1 to 32 letters, digits, `_` or `-`)"
    )]
    Malformed {
        /// Counted from 1.
        line: usize,
    },
    /// Two keys under one id.
    #[error("line {line} repeats the id of another key")]
    Repeated {
        /// Counted from 1.
        line: usize,
    },
    /// No key at all.
    #[error("there is no key")]
    Empty,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandom,
}

pub(super) struct Key {
    pub(super) id: Box<str>,
    pub(super) key: hmac::Key,
}

/// Keys by their ids. The first signs, all verify, so a new key is put first and the old one stays
/// until the tokens it signed have expired.
pub struct KeyRing {
    first: Key,
    others: Vec<Key>,
}

impl KeyRing {
    /// Reads one key a line, `<id>:<64 hex digits>`. Empty lines and lines that begin with `#` are
    /// passed over.
    ///
    /// # Errors
    ///
    /// Says which line is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let key = parse_key(text).ok_or(KeyError::Malformed { line })?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyError::Repeated { line });
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            first: keys.next().ok_or(KeyError::Empty)?,
            others: keys.collect(),
        })
    }

    /// One key for the life of this process.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| KeyError::NoRandom)?;
        Ok(Self {
            first: key("process", &bytes),
            others: Vec::new(),
        })
    }

    pub(super) const fn signing(&self) -> &Key {
        &self.first
    }

    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .find(|key| &*key.id == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = std::iter::once(&self.first).chain(&self.others);
        f.debug_list().entries(ids.map(|key| &key.id)).finish()
    }
}

fn parse_key(text: &str) -> Option<Key> {
    let (id, digits) = text.split_once(':')?;
    let is_id = (1..=ID_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let digits = digits.as_bytes();
    if !is_id || digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex(pair[0])? << 4 | hex(pair[1])?;
    }
    Some(key(id, &bytes))
}

fn key(id: &str, bytes: &[u8; KEY_BYTES]) -> Key {
    Key {
        id: id.into(),
        key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_its_mistakes_are_found() {
        let (a, b) = ("0aF1".repeat(16), "11".repeat(32));
        let ring = KeyRing::parse(&format!("# new first\n2026-b:{b}\r\n\n2026_a:{a}\n")).unwrap();
        assert_eq!(&*ring.signing().id, "2026-b");
        assert!(ring.find("2026_a").is_some() && ring.find("x").is_none());
        assert_eq!(format!("{ring:?}"), r#"["2026-b", "2026_a"]"#);
        for (text, error) in [
            (String::new(), KeyError::Empty),
            ("# none".to_owned(), KeyError::Empty),
            (format!("a:{a}\n{b}"), KeyError::Malformed { line: 2 }),
            (format!(":{a}"), KeyError::Malformed { line: 1 }),
            (format!("a b:{a}"), KeyError::Malformed { line: 1 }),
            (format!("a:{a}0"), KeyError::Malformed { line: 1 }),
            (
                format!("a:{}", "zz".repeat(32)),
                KeyError::Malformed { line: 1 },
            ),
            (format!("a:{a}\na:{b}"), KeyError::Repeated { line: 2 }),
        ] {
            assert_eq!(KeyRing::parse(&text).map(|_| ()), Err(error), "{text}");
        }
    }
}
