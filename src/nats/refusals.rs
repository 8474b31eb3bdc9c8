//! What the server refused on one connection, until whoever it concerns has asked.

use std::collections::HashMap;

use parking_lot::Mutex;

/// A permission error, as the server worded it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// A message to this subject.
    Publish(String),
    /// A subscription to this subject, as a member of this queue group.
    Subscription(String, Option<String>),
}

/// What an error says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A refusal.
    Refused(Refusal),
    /// A subscription that was there was ended, since the rules were changed.
    TakenAway {
        /// What it was to.
        subject: String,
        /// Our id of it.
        sid: u64,
    },
    /// A refusal of something that cannot be made out.
    Unreadable,
    /// Something else.
    Other,
}

impl Refusal {
    /// Reads `Permissions Violation for Publish to "x"` and `… for Subscription to "x"`, the latter
    /// also with ` using queue "q"` and, where it was there before, ` (sid "7")` (nats-server,
    /// `client.go`; names are quoted as Go's `%q` does).
    pub(super) fn read(text: &str) -> Reading {
        const PUBLISH: &str = "Permissions Violation for Publish to ";
        const SUBSCRIPTION: &str = "Permissions Violation for Subscription to ";
        if let Some(at) = text.find(PUBLISH) {
            return match quoted(&text[at + PUBLISH.len()..]) {
                Some((subject, _)) => Reading::Refused(Self::Publish(subject)),
                None => Reading::Unreadable,
            };
        }
        let Some(at) = text.find(SUBSCRIPTION) else {
            let permissions = text.contains("Permissions Violation");
            return if permissions {
                Reading::Unreadable
            } else {
                Reading::Other
            };
        };
        match quoted(&text[at + SUBSCRIPTION.len()..]) {
            Some((subject, rest)) => Self::read_subscription(subject, rest),
            None => Reading::Unreadable,
        }
    }

    fn read_subscription(subject: String, rest: &str) -> Reading {
        let (queue, rest) = match rest.strip_prefix(" using queue ").map(quoted) {
            None => (None, rest),
            Some(Some((queue, rest))) => (Some(queue), rest),
            Some(None) => return Reading::Unreadable,
        };
        let Some(sid) = rest.strip_prefix(" (sid ") else {
            return Reading::Refused(Self::Subscription(subject, queue));
        };
        match sid.trim_end_matches(')').trim_matches('"').parse() {
            Ok(sid) => Reading::TakenAway { subject, sid },
            Err(_) => Reading::Unreadable,
        }
    }
}

/// The text between the quotes at the start, and what follows. Our own subjects and groups are
/// printable ASCII, of which only quotes and backslashes are escaped.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut inside = String::new();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((inside, &text[at + 2..])),
            '\\' => match chars.next()? {
                (_, escaped @ ('"' | '\\')) => inside.push(escaped),
                _ => return None,
            },
            other => inside.push(other),
        }
    }
    None
}

/// How many of one kind: more subscriptions do not wait for their answer at once.
const WAITING_MAX: usize = 64;
/// How many refusals are remembered; each is asked about by whoever caused it.
const REMEMBERED_MAX: usize = 16 * 1024;

/// Refusals not yet asked about, each as often as it came: of twenty members of a group that are
/// refused, each has to learn it.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    /// The numbers of the events that brought them, counted from 1.
    events: HashMap<Refusal, Vec<u64>>,
    count: usize,
}

impl Refusals {
    /// False if there is no room: then nobody may be told that all is well.
    pub(super) fn add(&self, refusal: Refusal, event: u64) -> bool {
        let mut untold = self.0.lock();
        let Untold { events, count } = &mut *untold;
        if *count >= REMEMBERED_MAX {
            return false;
        }
        let events = events.entry(refusal).or_default();
        if events.len() >= WAITING_MAX {
            events.remove(0);
            *count -= 1;
        }
        events.push(event);
        *count += 1;
        true
    }

    /// Whether this was refused since there were `before` events; each refusal is told once. An older one
    /// was meant for somebody who did not stay to hear it.
    pub(super) fn take_since(&self, before: u64, refusal: &Refusal) -> bool {
        let mut untold = self.0.lock();
        let Some(events) = untold.events.get_mut(refusal) else {
            return false;
        };
        let Some(at) = events.iter().position(|event| *event > before) else {
            return false;
        };
        events.remove(at);
        if events.is_empty() {
            untold.events.remove(refusal);
        }
        untold.count -= 1;
        true
    }

    /// Whether this was refused; each refusal is told once.
    pub(super) fn take(&self, refusal: &Refusal) -> bool {
        self.take_since(0, refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(subject: &str) -> Reading {
        Reading::Refused(Refusal::Publish(subject.into()))
    }

    fn subscription(subject: &str, queue: Option<&str>) -> Reading {
        Reading::Refused(Refusal::Subscription(subject.into(), queue.map(Into::into)))
    }

    #[test]
    fn the_servers_words_are_understood() {
        assert_eq!(
            Refusal::read("Permissions Violation for Publish to \"a.b\""),
            publish("a.b")
        );
        assert_eq!(
            Refusal::read("Permissions Violation for Subscription to \"a.>\""),
            subscription("a.>", None)
        );
        let queue =
            Refusal::read("Permissions Violation for Subscription to \"a.>\" using queue \"q\"");
        assert_eq!(queue, subscription("a.>", Some("q")));
        for queue in ["", " using queue \"q\""] {
            let text =
                format!("Permissions Violation for Subscription to \"a.>\"{queue} (sid \"7\")");
            let subject = "a.>".to_owned();
            assert_eq!(Refusal::read(&text), Reading::TakenAway { subject, sid: 7 });
        }
        assert_eq!(Refusal::read("Stale Connection"), Reading::Other);
    }

    #[test]
    fn quotes_and_backslashes_in_a_subject_are_read_as_they_were_sent() {
        assert_eq!(
            Refusal::read(r#"Permissions Violation for Publish to "no.a\"b""#),
            publish("no.a\"b")
        );
        assert_eq!(
            Refusal::read(r#"Permissions Violation for Publish to "no.a\\b""#),
            publish(r"no.a\b")
        );
        let queue =
            Refusal::read(r#"Permissions Violation for Subscription to "a\"" using queue "\\q""#);
        assert_eq!(queue, subscription("a\"", Some(r"\q")));
    }

    #[test]
    fn what_cannot_be_made_out_is_not_taken_for_nothing() {
        for text in [
            "Permissions Violation for Publish to \"unfinished",
            "Permissions Violation for Publish to \"a\\x00\"",
            "Permissions Violation for Subscription to \"a\" (sid \"x\")",
            "Permissions Violation of a new kind",
        ] {
            assert_eq!(Refusal::read(text), Reading::Unreadable, "{text}");
        }
    }

    #[test]
    fn each_refusal_is_told_once() {
        let refusals = Refusals::default();
        let refusal = Refusal::Subscription("a".into(), Some("q".into()));
        refusals.add(refusal.clone(), 1);
        refusals.add(refusal.clone(), 2);
        assert!(!refusals.take(&Refusal::Subscription("a".into(), None)));
        assert!(refusals.take(&refusal));
        assert!(refusals.take(&refusal));
        assert!(!refusals.take(&refusal));
    }

    #[test]
    fn refusals_that_nobody_asks_about_do_not_add_up() {
        let refusals = Refusals::default();
        let refusal = Refusal::Subscription("a".into(), None);
        for event in 1..=2 * REMEMBERED_MAX as u64 {
            assert!(refusals.add(refusal.clone(), event));
        }
        let told = (0..).take_while(|_| refusals.take(&refusal)).count();
        assert_eq!(told, WAITING_MAX);
    }

    #[test]
    fn a_refusal_from_before_concerns_nobody_who_came_later() {
        let refusals = Refusals::default();
        let refusal = Refusal::Subscription("a".into(), None);
        refusals.add(refusal.clone(), 7);
        assert!(!refusals.take_since(7, &refusal));
        refusals.add(refusal.clone(), 9);
        assert!(refusals.take_since(7, &refusal));
        assert!(refusals.take_since(6, &refusal), "who waited then is told");
    }
}
