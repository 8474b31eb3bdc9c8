//! What of JetStream a route's callers may see.
//!
//! The rules are those of subscribing, for whoever reads a stream reads its subjects. Streams behind
//! buckets and NATS's own are closed whatever the rules say: they have another meaning than messages.

use crate::problem::{Code, Problem};
use crate::subject::{Name, SubjectPattern, SubjectPolicy};

const RESERVED: [&str; 3] = ["KV_", "OBJ_", "$"];

/// The rights of one route's callers.
#[derive(Clone, Debug)]
pub(super) struct Access {
    policy: SubjectPolicy,
}

impl Access {
    pub(super) const fn new(policy: SubjectPolicy) -> Self {
        Self { policy }
    }

    /// A stream that may be named here, from its percent-decoded text.
    pub(super) fn stream(text: &str) -> Result<Name, Problem> {
        let name = Name::parse(text)?;
        if is_reserved(name.as_str()) {
            return Err(denied(
                "streams `KV_*`, `OBJ_*` and `$*` are not served here",
            ));
        }
        Ok(name)
    }

    /// Whether anything in a stream with these subjects may be read.
    pub(super) fn shows(&self, name: &str, subjects: &[String]) -> bool {
        if is_reserved(name) {
            return false;
        }
        if subjects.is_empty() {
            return self.is_unbounded();
        }
        subjects
            .iter()
            .filter_map(|subject| SubjectPattern::parse(subject).ok())
            .any(|subject| self.reaches_into(&subject))
    }

    fn reaches_into(&self, subject: &SubjectPattern) -> bool {
        let is_closed = self.policy.deny.iter().any(|deny| deny.covers(subject));
        let opens = |allow: &SubjectPattern| {
            let names_it = allow.first_token() == subject.first_token();
            (names_it || !subject.first_token().starts_with(['$', '_'])) && allow.overlaps(subject)
        };
        !is_closed && self.policy.allow.iter().any(opens)
    }

    /// A mirror does not say which subjects it holds; it may be read as a whole where everything may.
    fn is_unbounded(&self) -> bool {
        self.policy.deny.is_empty() && self.policy.allow.iter().any(|allow| allow.as_str() == ">")
    }

    /// Whether all of these may be read: what a consumer filters by, or what a whole stream captures.
    pub(super) fn permit_all<'s>(
        &self,
        patterns: impl IntoIterator<Item = &'s String>,
    ) -> Result<(), Problem> {
        let mut patterns = patterns.into_iter().peekable();
        if patterns.peek().is_none() && !self.is_unbounded() {
            return Err(denied(
                "it holds whatever its origin holds, and not everything is allowed here",
            ));
        }
        for pattern in patterns {
            let permitted = SubjectPattern::parse(pattern)
                .is_ok_and(|pattern| self.policy.permits_subscribe(&pattern));
            if !permitted {
                return Err(Problem::new(Code::SubjectNotAllowed));
            }
        }
        Ok(())
    }

    /// Whether a stored message may be shown.
    pub(super) fn permit_message(&self, subject: &str) -> Result<(), Problem> {
        if self.policy.delivers(subject) {
            return Ok(());
        }
        Err(Problem::new(Code::SubjectNotAllowed))
    }
}

fn is_reserved(stream: &str) -> bool {
    RESERVED.iter().any(|prefix| stream.starts_with(prefix))
}

fn denied(detail: &'static str) -> Problem {
    Problem::new(Code::SubjectNotAllowed).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<SubjectPattern> {
        let parse = |text: &&str| SubjectPattern::parse(text).unwrap();
        texts.iter().map(parse).collect()
    }

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        Access::new(SubjectPolicy {
            allow: patterns(allow),
            deny: patterns(deny),
            root_wildcards: false,
        })
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn reserved_streams_are_closed() {
        for name in ["KV_x", "OBJ_x", "$MQTT_msgs", "$"] {
            let problem = Access::stream(name).unwrap_err();
            assert_eq!(problem.code(), Code::SubjectNotAllowed, "{name}");
            assert!(!access(&[">", "$KV.>"], &[]).shows(name, &strings(&["a"])));
        }
        for name in ["ORDERS", "KV", "kv_x", "OBJECTS"] {
            assert!(Access::stream(name).is_ok(), "{name}");
        }
        assert_eq!(
            Access::stream("a.b").unwrap_err().code(),
            Code::InvalidParameter
        );
    }

    #[test]
    fn a_stream_is_shown_where_a_part_of_it_may_be_read() {
        for (allow, deny, subjects, shown) in [
            (&[">"][..], &[][..], &["orders.>"][..], true),
            (&["orders.created"], &[], &["orders.>"], true),
            (&["orders.>"], &[], &["stock.>"], false),
            (&["orders.>"], &[], &["stock.>", "orders.eu"], true),
            (&[">"], &["orders.>"], &["orders.>"], false),
            (&[">"], &["orders.eu"], &["orders.>"], true),
            (&[">"], &[], &["$X.>"], false),
            (&["$X.>"], &[], &["$X.>"], true),
            (&[">"], &[], &[], true),
            (&[">"], &["a"], &[], false),
            (&["orders.>"], &[], &[], false),
        ] {
            let access = access(allow, deny);
            assert_eq!(
                access.shows("S", &strings(subjects)),
                shown,
                "{allow:?} {deny:?} {subjects:?}"
            );
        }
    }

    #[test]
    fn all_filters_must_be_allowed() {
        let access = access(&["orders.>"], &["orders.secret"]);
        assert!(
            access
                .permit_all(&strings(&["orders.eu", "orders.us.*"]))
                .is_ok()
        );
        for filters in [
            &["orders.eu", "stock"][..],
            &["orders.>"],
            &["orders.*"],
            &["orders.secret"],
            &[">"],
            &["a b"],
            &[],
        ] {
            assert!(access.permit_all(&strings(filters)).is_err(), "{filters:?}");
        }
        assert!(access.permit_message("orders.eu").is_ok());
        assert!(access.permit_message("orders.secret").is_err());
    }
}
