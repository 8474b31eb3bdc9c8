use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn written(payload: &[u8], encoding: Encoding) -> String {
    let mut out = Vec::new();
    Envelope {
        subject: "a.b",
        headers: None,
        payload,
        encoding,
        jetstream: None,
    }
    .write(&mut out);
    String::from_utf8(out).unwrap()
}

fn form(payload: &[u8], encoding: Encoding) -> (String, Value) {
    let value: Value = serde_json::from_str(&written(payload, encoding)).unwrap();
    (
        value["encoding"].as_str().unwrap().to_owned(),
        value["data"].clone(),
    )
}

#[test]
fn json_is_embedded_byte_for_byte() {
    assert_eq!(
        written(br#"{ "id":7, "x":1.50 }"#, Encoding::Auto),
        r#"{"subject":"a.b","encoding":"json","data":{ "id":7, "x":1.50 }}"#
    );
    assert_eq!(
        written(b"{\r\n\"a\\n\":\n[1,\r2]}\n", Encoding::Auto),
        r#"{"subject":"a.b","encoding":"json","data":{  "a\n": [1, 2]} }"#
    );
}

#[test]
fn each_encoding_falls_back_to_the_next() {
    let base64 = || ("base64".to_owned(), json!("/w=="));
    let table = [
        (&b"7"[..], Encoding::Auto, ("json".to_owned(), json!(7))),
        (b"7", Encoding::Json, ("json".to_owned(), json!(7))),
        (b"7", Encoding::Text, ("text".to_owned(), json!("7"))),
        (b"7", Encoding::Base64, ("base64".to_owned(), json!("Nw=="))),
        (b"hi\n", Encoding::Auto, ("text".to_owned(), json!("hi\n"))),
        (b"hi", Encoding::Json, ("text".to_owned(), json!("hi"))),
        (b"", Encoding::Auto, ("text".to_owned(), json!(""))),
        (b"", Encoding::Base64, ("base64".to_owned(), json!(""))),
        (b"\xff", Encoding::Auto, base64()),
        (b"\xff", Encoding::Json, base64()),
        (b"\xff", Encoding::Text, base64()),
    ];
    for (payload, encoding, expected) in table {
        assert_eq!(
            form(payload, encoding),
            expected,
            "{payload:?} {encoding:?}"
        );
    }
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    assert_eq!(
        form(deep.as_bytes(), Encoding::Auto),
        ("text".to_owned(), json!(deep))
    );
}

#[test]
fn headers_are_arrays_and_left_out_when_empty() {
    let mut headers = HeaderMap::new();
    let write = |headers: &HeaderMap| {
        let mut out = Vec::new();
        let envelope = Envelope {
            subject: "s",
            headers: Some(headers),
            payload: b"1",
            encoding: Encoding::Auto,
            jetstream: None,
        };
        envelope.write(&mut out);
        serde_json::from_slice::<Value>(&out).unwrap()
    };
    assert_eq!(write(&headers).get("headers"), None);
    headers.append("Order-Id", "7");
    headers.append("Order-Id", "8");
    headers.append("Quote", "\"\\");
    assert_eq!(
        write(&headers)["headers"],
        json!({"Order-Id": ["7", "8"], "Quote": ["\"\\"]})
    );
}

#[test]
fn jetstream_adds_its_members() {
    let mut out = Vec::new();
    let time = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
    let jetstream = JetStream {
        stream: "ORDERS",
        seq: 9,
        time,
        delivered: 1,
        pending: 0,
        ack: Some("tok"),
    };
    Envelope {
        subject: "s",
        headers: None,
        payload: b"",
        encoding: Encoding::Auto,
        jetstream: Some(jetstream),
    }
    .write(&mut out);
    let expected = json!({"subject": "s", "encoding": "text", "data": "", "stream": "ORDERS", "seq": 9,
        "time": "2023-11-14T22:13:20.123456789Z", "delivered": 1, "pending": 0, "ack": "tok"});
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
}

#[test]
fn the_words_are_read() {
    assert_eq!("base64".parse(), Ok(Encoding::Base64));
    assert_eq!("auto".parse(), Ok(Encoding::Auto));
    assert_eq!("JSON".parse::<Encoding>(), Err(UnknownEncoding));
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        ".{0,32}".prop_map(String::into_bytes),
        r#"(\[|\]|\{|\}|,|:|"a"|1|true|null| |\n|\r){0,12}"#.prop_map(String::into_bytes),
    ]
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        Just(Encoding::Auto),
        Just(Encoding::Json),
        Just(Encoding::Text),
        Just(Encoding::Base64)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn it_is_one_line_of_json_that_holds_the_payload(
        subject in ".{0,16}", payload in payload(), encoding in encoding(),
    ) {
        let mut out = Vec::new();
        Envelope { subject: &subject, headers: None, payload: &payload, encoding, jetstream: None }.write(&mut out);
        prop_assert!(memchr::memchr2(b'\n', b'\r', &out).is_none());
        let value: Value = match serde_json::from_slice(&out) {
            Ok(value) => value,
            // A number like 1e999 is JSON, but not every parser holds it.
            Err(error) => {
                prop_assert!(error.to_string().contains("out of range") || error.to_string().contains("surrogate"), "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(value["subject"].as_str(), Some(&*subject));
        let data = &value["data"];
        match value["encoding"].as_str().unwrap() {
            "base64" => prop_assert_eq!(STANDARD.decode(data.as_str().unwrap()).unwrap(), payload),
            "text" => prop_assert_eq!(data.as_str().unwrap().as_bytes(), &*payload),
            "json" => prop_assert_eq!(data, &serde_json::from_slice::<Value>(&payload).unwrap()),
            other => prop_assert!(false, "{}", other),
        }
    }
}
