use proptest::prelude::*;

use super::*;

fn policy(allow: &[&str], deny: &[&str], root_wildcards: bool) -> SubjectPolicy {
    let parse = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| SubjectPattern::parse(text).unwrap())
            .collect()
    };
    SubjectPolicy {
        allow: parse(allow),
        deny: parse(deny),
        root_wildcards,
    }
}

fn publishes(policy: &SubjectPolicy, subject: &str) -> bool {
    policy.permits_publish(&Subject::parse(subject).unwrap())
}

fn subscribes(policy: &SubjectPolicy, pattern: &str) -> bool {
    policy.permits_subscribe(&SubjectPattern::parse(pattern).unwrap())
}

#[test]
fn everything_covers_no_reserved_token_and_no_root_wildcard() {
    let policy = policy(&[">"], &[], false);
    for good in ["a", "a.b", "a.$JS", "a._x"] {
        assert!(publishes(&policy, good), "{good}");
        assert!(subscribes(&policy, good), "{good}");
    }
    assert!(subscribes(&policy, "a.>"));
    for reserved in ["$JS.API.INFO", "$SYS.x", "_INBOX.x", "$", "_"] {
        assert!(!publishes(&policy, reserved), "{reserved}");
        assert!(!subscribes(&policy, reserved), "{reserved}");
    }
    for root in [">", "*", "*.a", "*.*", "*.>"] {
        assert!(!subscribes(&policy, root), "{root}");
    }
}

#[test]
fn root_wildcards_never_show_what_is_reserved() {
    let policy = policy(&[">"], &[], true);
    for root in [">", "*", "*.a", "*.>"] {
        assert!(subscribes(&policy, root), "{root}");
    }
    assert!(policy.delivers("a.b"));
    assert!(!policy.delivers("$SYS.REQ.x"));
    assert!(!policy.delivers("_INBOX.abc"));
    assert!(!subscribes(&policy, "$SYS.>"));
}

#[test]
fn an_entry_that_names_the_token_opens_it() {
    let policy = policy(&[">", "$SRV.>"], &[], false);
    assert!(publishes(&policy, "$SRV.PING"));
    assert!(subscribes(&policy, "$SRV.>"));
    assert!(!subscribes(&policy, "$JS.>"));
    assert!(!subscribes(&policy, "$SRVX.>"));
}

#[test]
fn a_root_wildcard_needs_an_entry_that_covers_it_as_well() {
    let policy = policy(&["orders.>", "*.created"], &[], true);
    assert!(subscribes(&policy, "*.created"));
    assert!(!subscribes(&policy, "*.deleted"));
    assert!(!subscribes(&policy, ">"));
}

#[test]
fn allow_is_a_superset_and_deny_an_overlap() {
    let policy = policy(&["orders.>"], &["orders.secret.>"], false);
    assert!(subscribes(&policy, "orders.open.*"));
    assert!(!subscribes(&policy, "orders.>"));
    assert!(!subscribes(&policy, "orders.*.x"));
    assert!(!subscribes(&policy, "invoices.x"));
    assert!(!publishes(&policy, "orders.secret.x"));
    assert!(publishes(&policy, "orders.secret"));
}

#[test]
fn an_empty_policy_permits_nothing() {
    let policy = SubjectPolicy::default();
    assert!(!publishes(&policy, "a"));
    assert!(!subscribes(&policy, "a"));
}

// The reference: a pattern is the set of subjects it matches among all subjects of up to four tokens
// over a small alphabet, plus one letter (`z`) that no pattern names. Superset, overlap and the rules
// of the policy are then plain set arithmetic.

const ALPHABET: [&str; 4] = ["a", "$S", "_I", "z"];

fn universe() -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&str>> = vec![vec![]];
    let mut last = all.clone();
    for _ in 0..4 {
        last = last
            .iter()
            .flat_map(|head| {
                ALPHABET.iter().map(move |token| {
                    let mut longer = head.clone();
                    longer.push(*token);
                    longer
                })
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|tokens| !tokens.is_empty());
    all
}

fn reference_matches(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern.split_first(), subject.split_first()) {
        (None, None) => true,
        (Some((&">", _)), Some(_)) => true,
        (Some((p, pattern)), Some((s, subject))) => {
            (*p == "*" || p == s) && reference_matches(pattern, subject)
        }
        _ => false,
    }
}

struct Reference<'t> {
    allow: Vec<Vec<&'t str>>,
    deny: Vec<Vec<&'t str>>,
    root_wildcards: bool,
}

impl Reference<'_> {
    fn permits_one(&self, subject: &[&str]) -> bool {
        let reserved = subject[0].starts_with('$') || subject[0].starts_with('_');
        let allowed = self.allow.iter().any(|entry| {
            reference_matches(entry, subject) && (!reserved || entry[0] == subject[0])
        });
        allowed
            && !self
                .deny
                .iter()
                .any(|entry| reference_matches(entry, subject))
    }

    fn permits_subscribe(&self, pattern: &[&str], universe: &[Vec<&str>]) -> bool {
        let root = pattern[0] == "*" || pattern[0] == ">";
        let reserved = pattern[0].starts_with('$') || pattern[0].starts_with('_');
        let wanted: Vec<_> = universe
            .iter()
            .filter(|subject| reference_matches(pattern, subject))
            .collect();
        let covered = self.allow.iter().any(|entry| {
            wanted
                .iter()
                .all(|subject| reference_matches(entry, subject))
                && (!reserved || entry[0] == pattern[0])
        });
        let denied = self.deny.iter().any(|entry| {
            wanted
                .iter()
                .any(|subject| reference_matches(entry, subject))
        });
        covered && !denied && (!root || self.root_wildcards)
    }
}

// At most three tokens, so that four-token subjects tell `>` from any number of `*`.
fn pattern_tokens() -> impl Strategy<Value = Vec<&'static str>> {
    let token = prop_oneof![Just("a"), Just("$S"), Just("_I"), Just("*")];
    (prop::collection::vec(token, 0..3), any::<bool>()).prop_map(|(mut tokens, open)| {
        if open || tokens.is_empty() {
            tokens.push(">");
        }
        tokens
    })
}

fn patterns() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    prop::collection::vec(pattern_tokens(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn it_agrees_with_the_reference(
        allow in patterns(), deny in patterns(), root_wildcards: bool,
        asked in pattern_tokens(),
    ) {
        let join = |patterns: &[Vec<&str>]| -> Vec<SubjectPattern> {
            patterns.iter().map(|tokens| SubjectPattern::parse(&tokens.join(".")).unwrap()).collect()
        };
        let policy = SubjectPolicy { allow: join(&allow), deny: join(&deny), root_wildcards };
        let reference = Reference { allow, deny, root_wildcards };
        let universe = universe();
        let pattern = SubjectPattern::parse(&asked.join(".")).unwrap();
        prop_assert_eq!(
            policy.permits_subscribe(&pattern),
            reference.permits_subscribe(&asked, &universe)
        );
        for subject in &universe {
            let text = subject.join(".");
            let expected = reference.permits_one(subject);
            prop_assert_eq!(policy.delivers(&text), expected, "{}", text);
            prop_assert_eq!(publishes(&policy, &text), expected, "{}", text);
        }
    }
}
