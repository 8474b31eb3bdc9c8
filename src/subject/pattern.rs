//! Subjects with wildcards: what a subscription asks for, what a policy names.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::{Subject, SubjectError, Wildcards, check, first_token, tokens};

/// A subject that may hold `*` (one token) and, as its last token, `>` (one or more tokens).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubjectPattern(async_nats::Subject);

impl SubjectPattern {
    /// Checks and takes over a text that is already percent-decoded.
    ///
    /// # Errors
    ///
    /// Says what is wrong and, for an illegal byte, where.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        check(text, Wildcards::WholeTokens)?;
        Ok(Self(text.into()))
    }

    pub(super) fn from_checked(subject: async_nats::Subject) -> Self {
        Self(subject)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The same pattern for the NATS client; shares the bytes.
    #[must_use]
    pub fn to_nats(&self) -> async_nats::Subject {
        self.0.clone()
    }

    /// The part before the first dot.
    #[must_use]
    pub fn first_token(&self) -> &str {
        first_token(self.as_str())
    }

    /// Whether it holds no wildcard.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        // A checked pattern has these bytes only as whole tokens.
        memchr::memchr2(b'*', b'>', self.as_str().as_bytes()).is_none()
    }

    /// Whether its first token is a wildcard (`>`, `*`, `*.…`).
    #[must_use]
    pub fn is_root_wildcard(&self) -> bool {
        matches!(self.first_token(), "*" | ">")
    }

    /// The literal subject, where it is one.
    #[must_use]
    pub fn to_literal(&self) -> Option<Subject> {
        self.is_literal().then(|| Subject(self.0.clone()))
    }

    /// Whether a message with this literal subject is delivered to it.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let mut theirs = tokens(subject);
        for ours in tokens(self.as_str()) {
            match (ours, theirs.next()) {
                (_, None) => return false,
                (b">", Some(_)) => return true,
                (b"*", Some(_)) => {}
                (ours, Some(token)) if ours == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether every subject that `other` matches is matched by this one, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = tokens(other.as_str());
        for ours in tokens(self.as_str()) {
            match (ours, theirs.next()) {
                (_, None) => return false,
                (b">", Some(_)) => return true,
                (_, Some(b">")) => return false,
                (b"*", Some(_)) => {}
                (ours, Some(token)) if ours == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether some subject is matched by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut ours = tokens(self.as_str());
        let mut theirs = tokens(other.as_str());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(b"*"), Some(_)) | (Some(_), Some(b"*")) => {}
                (Some(our), Some(their)) if our == their => {}
                _ => return false,
            }
        }
    }
}

impl Hash for SubjectPattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for SubjectPattern {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::str::FromStr for SubjectPattern {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<&Subject> for SubjectPattern {
    fn from(subject: &Subject) -> Self {
        subject.to_pattern()
    }
}
