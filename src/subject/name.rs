//! Names of streams, consumers and queue groups.

use std::fmt;

/// The longest name in bytes, as the server has it.
pub const NAME_MAX: usize = 255;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("the name is longer than {limit} bytes")]
    TooLong {
        /// The most bytes allowed.
        limit: usize,
    },
    /// A blank, a control character, one of `. * > / \`, or anything beyond ASCII.
    #[error("the byte at position {position} is not allowed in a name")]
    Illegal {
        /// Counted in bytes from 0.
        position: usize,
    },
}

/// The name of a stream, a consumer or a queue group: one subject token without slashes, because
/// names become tokens of API subjects and, on the server, names of folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Checks and takes over a text that is already percent-decoded.
    ///
    /// # Errors
    ///
    /// Says what is wrong and, for an illegal byte, where.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong { limit: NAME_MAX });
        }
        match text.bytes().position(|byte| !is_name_byte(byte)) {
            Some(position) => Err(NameError::Illegal { position }),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>' | b'/' | b'\\')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

text_serde!(Name);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_token_without_slashes() {
        for good in ["ORDERS", "a-b_c", "x", "$G", "a:b", "{x}", &"n".repeat(255)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(
            Name::parse(&"n".repeat(256)),
            Err(NameError::TooLong { limit: 255 })
        );
        for bad in [
            "a.b", "a*b", "a>b", "a/b", "a\\b", "a b", "a\tb", "a\0b", "aäb",
        ] {
            assert_eq!(
                Name::parse(bad),
                Err(NameError::Illegal { position: 1 }),
                "{bad:?}"
            );
        }
    }
}
