//! Which subjects an endpoint may use.

use super::{Subject, SubjectPattern, is_reserved};

/// Allowed and denied subjects of one endpoint.
///
/// `deny` wins. An entry that begins with a wildcard (`>`, `*.x`) reaches no subject whose first
/// token begins with `$` or `_`: those are NATS's own (`$JS` administers streams, `_INBOX` holds other
/// callers' replies) and an entry must name the token to open them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectPolicy {
    /// One of these must cover what is asked for.
    pub allow: Vec<SubjectPattern>,
    /// None of these may overlap with what is asked for.
    pub deny: Vec<SubjectPattern>,
    /// Whether subscriptions may begin with a wildcard.
    pub root_wildcards: bool,
}

impl SubjectPolicy {
    /// Whether a message may be sent to the subject.
    #[must_use]
    pub fn permits_publish(&self, subject: &Subject) -> bool {
        self.delivers(subject.as_str())
    }

    /// Whether a subscription may be opened.
    #[must_use]
    pub fn permits_subscribe(&self, pattern: &SubjectPattern) -> bool {
        if self.deny.iter().any(|entry| entry.overlaps(pattern)) {
            return false;
        }
        if pattern.is_root_wildcard() && !self.root_wildcards {
            return false;
        }
        let first = pattern.first_token();
        self.allow
            .iter()
            .any(|entry| reaches(entry, first) && entry.covers(pattern))
    }

    /// Whether a message with this subject may be shown. Only a subscription that
    /// [begins with a wildcard](SubjectPattern::is_root_wildcard), or a stream that holds more than
    /// was asked about, can bring a message for which this is false.
    #[must_use]
    pub fn delivers(&self, subject: &str) -> bool {
        let first = super::first_token(subject);
        self.allow
            .iter()
            .any(|entry| reaches(entry, first) && entry.matches(subject))
            && !self.deny.iter().any(|entry| entry.matches(subject))
    }
}

fn reaches(entry: &SubjectPattern, first_token: &str) -> bool {
    !is_reserved(first_token) || entry.first_token() == first_token
}

#[cfg(test)]
mod tests;
