//! Whatever is accepted as a subject is one well-formed argument of the NATS protocol, and the
//! relations between patterns agree with matching.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsway::subject::{Subject, SubjectPattern, SubjectPolicy, SubjectTemplate};

fuzz_target!(|texts: (&str, &str, &str, bool)| {
    let (one, two, three, root_wildcards) = texts;
    let subject = Subject::parse(one);
    if let Ok(subject) = &subject {
        assert_eq!(subject.as_str(), one);
        assert!(one.len() <= 512 && one.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!one.contains(['*', '>']) && one.split('.').all(|token| !token.is_empty()));
        let again = SubjectPattern::parse(one).expect("every subject is a pattern");
        assert!(again.is_literal() && again.matches(one));
    }
    if let (Ok(a), Ok(b)) = (SubjectPattern::parse(two), SubjectPattern::parse(three)) {
        relations(&a, &b, subject.as_ref().ok());
        policy(&a, &b, subject.as_ref().ok(), root_wildcards);
    }
    if let Ok(template) = SubjectTemplate::parse(two)
        && let Ok(bound) = template.bind_pattern(|_| Some(one))
    {
        assert!(template.widest().covers(&bound));
        assert_eq!(
            bound.as_str().split('.').count(),
            template.widest().as_str().split('.').count()
        );
    }
});

fn relations(a: &SubjectPattern, b: &SubjectPattern, subject: Option<&Subject>) {
    assert!(a.covers(a) && a.overlaps(a));
    assert_eq!(a.overlaps(b), b.overlaps(a));
    if a.covers(b) {
        assert!(a.overlaps(b));
    }
    if let Some(subject) = subject {
        let subject = subject.as_str();
        assert!(!(a.covers(b) && b.matches(subject)) || a.matches(subject));
        assert!(!(a.matches(subject) && b.matches(subject)) || a.overlaps(b));
    }
}

/// A permitted subscription that does not begin with a wildcard brings only what may be shown.
fn policy(a: &SubjectPattern, b: &SubjectPattern, subject: Option<&Subject>, root_wildcards: bool) {
    let policy = SubjectPolicy {
        allow: vec![a.clone()],
        deny: Vec::new(),
        root_wildcards,
    };
    let Some(subject) = subject else { return };
    if policy.permits_subscribe(b) && !b.is_root_wildcard() && b.matches(subject.as_str()) {
        assert!(policy.delivers(subject.as_str()));
    }
    if subject.as_str().starts_with(['$', '_']) && policy.delivers(subject.as_str()) {
        assert_eq!(a.first_token(), subject.first_token());
    }
    let denied = SubjectPolicy {
        deny: vec![b.clone()],
        ..policy
    };
    assert!(!denied.permits_subscribe(b));
    assert!(!(b.matches(subject.as_str()) && denied.permits_publish(subject)));
}
