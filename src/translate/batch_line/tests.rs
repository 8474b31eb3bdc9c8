use proptest::prelude::*;

use super::*;
use crate::translate::envelope::{Encoding, Envelope};

fn read(line: &str) -> Result<Message, LineError> {
    decode(
        &Bytes::copy_from_slice(line.as_bytes()),
        None,
        ClientContext::Kept,
    )
}

fn payload_of(members: &str) -> Result<Bytes, LineError> {
    read(&format!(r#"{{"subject":"a.b"{members}}}"#)).map(|message| message.payload)
}

#[test]
fn data_becomes_the_payload() {
    let table = [
        ("", ""),
        (r#","data":"hi""#, "hi"),
        (r#","data":"a\n\u0041""#, "a\nA"),
        (r#","data":"""#, ""),
        (r#","data":{ "id": 7.0 }"#, r#"{ "id": 7.0 }"#),
        (r#","data":[1,2]"#, "[1,2]"),
        (r#","data":1e999"#, "1e999"),
        (r#","data":null"#, "null"),
        (r#","data":true,"encoding":"json""#, "true"),
        (r#","data":"hi","encoding":"json""#, r#""hi""#),
        (r#","data":"hi","encoding":"text""#, "hi"),
        (r#","data":"aGk=","encoding":"base64""#, "hi"),
        (r#","data":"aGk","encoding":"base64""#, "hi"),
        (r#","encoding":"base64""#, ""),
        (
            r#","encoding":null,"headers":null,"msg_id":null,"data":"x""#,
            "x",
        ),
    ];
    for (members, expected) in table {
        assert_eq!(payload_of(members).unwrap(), expected, "{members}");
    }
}

#[test]
fn data_that_does_not_fit_its_encoding_is_refused() {
    let table = [
        (r#","data":1,"encoding":"text""#, DataError::NotAString),
        (r#","data":null,"encoding":"base64""#, DataError::NotAString),
        (r#","data":"a?","encoding":"base64""#, DataError::NotBase64),
        (r#","data":"\ud800""#, DataError::NoCharacter),
    ];
    for (members, error) in table {
        assert_eq!(payload_of(members), Err(error.into()), "{members}");
    }
}

#[test]
fn a_payload_is_a_slice_of_its_line_where_it_can_be() {
    let line = Bytes::from_static(br#"{"subject":"a","data":{"k":[1]}}"#);
    let payload = decode(&line, None, ClientContext::Kept).unwrap().payload;
    assert!(line.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn members_that_are_not_known_are_named() {
    for (line, word) in [
        (r#"{"subject":"a","payload":1}"#, "payload"),
        (r#"{"data":1}"#, "subject"),
        (r#"{"subject":"a","subject":"b"}"#, "duplicate"),
        (r#"{"subject":"a","encoding":"auto"}"#, "auto"),
        (r#"{"subject":7}"#, "string"),
        (r#"{"subject":"a"} x"#, "trailing"),
        (r#"["a","b"]"#, "object"),
        (r#""a""#, "object"),
        ("", "object"),
        ("{", "EOF"),
    ] {
        let error = read(line).unwrap_err();
        assert!(matches!(error, LineError::Json(_)), "{line}");
        assert!(error.to_string().contains(word), "{line}: {error}");
    }
    assert!(
        decode(
            &Bytes::from_static(b"{\"subject\":\"\xff\"}"),
            None,
            ClientContext::Kept
        )
        .is_err()
    );
}

#[test]
fn subject_headers_and_message_id_are_checked() {
    let wildcard = read(r#"{"subject":"a.*"}"#);
    assert_eq!(wildcard, Err(LineError::Subject(SubjectError::Wildcard)));
    for line in [
        r#"{"subject":"a","headers":{"Nats-Rollup":"all"}}"#,
        r#"{"subject":"a","msg_id":""}"#,
        r#"{"subject":"a","msg_id":"a b"}"#,
    ] {
        assert!(matches!(read(line), Err(LineError::Header(_))), "{line}");
    }
    let line = Bytes::from_static(br#"{"subject":"a","headers":{"X-y":["1","2"]},"msg_id":"k"}"#);
    let headers = decode(&line, Some("r:"), ClientContext::Kept)
        .unwrap()
        .headers
        .unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "r:k");
    assert_eq!(headers.get_all("X-y").count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn an_envelope_read_as_a_line_is_the_same_message(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            ".{0,32}".prop_map(String::into_bytes),
            r#"(\[|\]|\{|\}|,|:|"a"|1|true|null| ){0,12}"#.prop_map(String::into_bytes),
        ],
        value in "[ -~]{1,12}",
    ) {
        let mut headers = HeaderMap::new();
        headers.append("X-Y", value.as_str());
        let mut line = Vec::new();
        let envelope = Envelope {
            subject: "a.b", headers: Some(&headers), payload: &payload, encoding: Encoding::Auto, jetstream: None,
        };
        envelope.write(&mut line);
        let message = decode(&line.into(), None, ClientContext::Kept).unwrap();
        prop_assert_eq!(message.headers.unwrap(), headers);
        // White space around a JSON value is not part of it.
        let same = message.payload == payload
            || message.payload == payload.trim_ascii();
        prop_assert!(same, "{:?} {:?}", message.payload, payload);
    }
}
