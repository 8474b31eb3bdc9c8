use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::harness::Answer;
use crate::harness::history::{History, Verdict};

fn answer(status: u16, body: &'static str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[test]
fn each_broken_promise_is_named() {
    let history = History::default();
    let not_sent = answer(503, r#"{"outcome":"not_sent"}"#);
    let unknown = answer(503, r#"{"outcome":"unknown"}"#);
    for (key, answer) in [
        ("kept", Some(answer(204, ""))),
        ("lost", Some(answer(200, "{}"))),
        ("phantom", Some(not_sent.clone())),
        ("open", Some(unknown.clone())),
        ("no-answer", None),
        ("accepted", Some(answer(202, ""))),
    ] {
        history.answered(key, answer.as_ref(), true);
    }
    for key in ["kept", "phantom", "open", "open", "stranger"] {
        history.saw(key);
    }
    let names = |keys: &[&str]| keys.iter().map(|&k| k.to_owned()).collect::<Vec<_>>();
    let expected = Verdict {
        lost: names(&["lost"]),
        duplicated: names(&["open"]),
        phantom: names(&["phantom", "stranger"]),
    };
    assert_eq!(history.verdict(), expected);
}

#[test]
fn a_later_refusal_does_not_undo_an_open_attempt() {
    let history = History::default();
    history.answered("k", None, true);
    history.answered("k", Some(&answer(503, r#"{"outcome":"not_sent"}"#)), false);
    history.saw("k");
    history.verdict().assert_clean();
}
