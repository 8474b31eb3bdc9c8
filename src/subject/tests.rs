use proptest::prelude::*;

use super::*;

#[test]
fn legal_subjects_are_taken_byte_for_byte() {
    for text in [
        "a",
        "orders.created",
        "$JS.API.INFO",
        "_INBOX.x",
        "a/b:c{d}~!",
        "A.1",
    ] {
        let subject = Subject::parse(text).unwrap();
        assert_eq!(subject.as_str(), text);
        assert_eq!(subject.to_nats().as_str(), text);
        assert!(SubjectPattern::parse(text).unwrap().is_literal());
    }
    assert!(Subject::parse(&"x".repeat(SUBJECT_MAX)).is_ok());
}

#[test]
fn illegal_subjects_say_what_is_wrong() {
    let too_long = "x".repeat(SUBJECT_MAX + 1);
    let table = [
        ("", SubjectError::Empty),
        (&*too_long, SubjectError::TooLong { limit: SUBJECT_MAX }),
        (".a", SubjectError::EmptyToken),
        ("a.", SubjectError::EmptyToken),
        ("a..b", SubjectError::EmptyToken),
        (".", SubjectError::EmptyToken),
        ("a b", SubjectError::Illegal { position: 1 }),
        ("a\r\nPUB x 1", SubjectError::Illegal { position: 1 }),
        ("ab\0", SubjectError::Illegal { position: 2 }),
        ("a\x7f", SubjectError::Illegal { position: 1 }),
        ("a\u{2028}b", SubjectError::Illegal { position: 1 }),
        ("ü", SubjectError::Illegal { position: 0 }),
    ];
    for (text, error) in table {
        assert_eq!(Subject::parse(text), Err(error.clone()), "{text:?}");
        assert_eq!(SubjectPattern::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_wildcard_encoded_twice_is_no_subject_in_a_url() {
    for text in ["%2A", "a.%3E", "a.%2a.b", "x%3e", "%%2A"] {
        assert_eq!(
            decoded_once(text),
            Err(SubjectError::EncodedTwice),
            "{text}"
        );
        // Where nothing was to be decoded, it is what it says.
        assert!(Subject::parse(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "%",
        "%2",
        "a%2Eb",
        "100%",
        "%2B",
        "\u{fc}%\u{fc}",
        "a.*.>",
    ] {
        assert_eq!(decoded_once(text), Ok(text));
    }
}

#[test]
fn wildcards_are_whole_tokens_and_only_in_patterns() {
    for text in ["*", ">", "a.*", "a.*.b", "a.>", "*.>", "*.*"] {
        assert_eq!(Subject::parse(text), Err(SubjectError::Wildcard), "{text}");
        let pattern = SubjectPattern::parse(text).unwrap();
        assert_eq!(pattern.as_str(), text);
        assert!(!pattern.is_literal());
        assert_eq!(pattern.to_literal(), None);
    }
    for (text, position) in [
        ("a*", 1),
        ("*a", 0),
        ("a.b>", 3),
        (">.a", 0),
        ("**", 0),
        ("a.>>", 2),
        (">>", 0),
        ("a.*>", 2),
    ] {
        assert_eq!(Subject::parse(text), Err(SubjectError::Wildcard), "{text}");
        assert_eq!(
            SubjectPattern::parse(text),
            Err(SubjectError::Illegal { position }),
            "{text}"
        );
    }
}

#[test]
fn matching_covering_and_overlapping() {
    let p = |text: &str| SubjectPattern::parse(text).unwrap();
    assert!(p("a.*").matches("a.b") && !p("a.*").matches("a") && !p("a.*").matches("a.b.c"));
    assert!(p("a.>").matches("a.b.c") && !p("a.>").matches("a"));
    assert!(p("a.>").covers(&p("a.*.>")) && p("a.*").covers(&p("a.*")));
    assert!(!p("a.*").covers(&p("a.>")) && !p("a.*.>").covers(&p("a.>")));
    assert!(p("a.*").overlaps(&p("*.b")) && p(">").overlaps(&p("x.y")));
    assert!(!p("a.*").overlaps(&p("a.*.c")) && !p("a.b").overlaps(&p("a.c")));
}

#[test]
fn configuration_reads_them_and_reports_what_is_wrong() {
    let pattern: SubjectPattern = serde_json::from_str(r#""orders.>""#).unwrap();
    assert_eq!(serde_json::to_string(&pattern).unwrap(), r#""orders.>""#);
    let error = serde_json::from_str::<Subject>(r#""a..b""#).unwrap_err();
    assert!(error.to_string().contains("empty token"), "{error}");
}

/// A pattern over a tiny alphabet, so that random ones often meet.
fn pattern() -> impl Strategy<Value = SubjectPattern> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*")];
    (prop::collection::vec(token, 0..4), any::<bool>()).prop_map(|(mut tokens, open)| {
        if open || tokens.is_empty() {
            tokens.push(">");
        }
        SubjectPattern::parse(&tokens.join(".")).unwrap()
    })
}

fn literal() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..6)
        .prop_map(|tokens| tokens.join("."))
}

proptest! {
    #[test]
    fn what_is_accepted_cannot_break_the_protocol(text in prop_oneof![".{0,40}", "[ -~\r\n\t]{0,40}", "[a.*>]{0,12}"]) {
        if let Ok(subject) = Subject::parse(&text) {
            prop_assert_eq!(subject.as_str(), &text);
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'));
            prop_assert!(text.split('.').all(|token| !token.is_empty()));
            prop_assert!(async_nats::Subject::validated(&text).is_ok());
        }
        if let Ok(pattern) = SubjectPattern::parse(&text) {
            let tokens: Vec<&str> = text.split('.').collect();
            for (index, token) in tokens.iter().enumerate() {
                prop_assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(*token == "*" || !token.contains('*'));
                prop_assert!(!token.contains('>') || (*token == ">" && index == tokens.len() - 1));
            }
            prop_assert_eq!(pattern.is_literal(), Subject::parse(&text).is_ok());
        }
    }

    #[test]
    fn covering_and_overlapping_agree_with_matching(a in pattern(), b in pattern(), subject in literal()) {
        if a.covers(&b) && b.matches(&subject) {
            prop_assert!(a.matches(&subject));
        }
        if a.matches(&subject) && b.matches(&subject) {
            prop_assert!(a.overlaps(&b));
        }
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        prop_assert!(a.covers(&a) && a.overlaps(&a));
        prop_assert_eq!(a.matches(&subject), a.covers(&Subject::parse(&subject).unwrap().to_pattern()));
    }
}
