//! An envelope is one line of JSON, and read as a batch line it is the same message. Any other line
//! that is accepted becomes an envelope that is accepted, too.
#![no_main]

use base64::Engine as _;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use natsway::translate::ClientContext;
use natsway::translate::batch_line::decode;
use natsway::translate::envelope::{Encoding, Envelope};

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, choice) = input;
    let encoding = [
        Encoding::Auto,
        Encoding::Json,
        Encoding::Text,
        Encoding::Base64,
    ][usize::from(choice % 4)];
    round_trip("a.b", bytes, encoding);
    if let Ok(message) = decode(
        &Bytes::copy_from_slice(bytes),
        Some("route:"),
        ClientContext::Kept,
    ) {
        round_trip(message.subject.as_str(), &message.payload, encoding);
    }
});

fn round_trip(subject: &str, payload: &[u8], encoding: Encoding) {
    let mut line = Vec::new();
    Envelope {
        subject,
        headers: None,
        payload,
        encoding,
        jetstream: None,
    }
    .write(&mut line);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let message =
        decode(&line.clone().into(), None, ClientContext::Kept).expect("an envelope is a line");
    assert_eq!(message.subject.as_str(), subject);
    if line
        .windows(18)
        .any(|part| part == b"\"encoding\":\"json\",")
    {
        let spaces = |bytes: &[u8]| -> Vec<u8> {
            let bytes = bytes.trim_ascii().iter();
            bytes
                .map(|byte| {
                    if matches!(byte, b'\n' | b'\r') {
                        b' '
                    } else {
                        *byte
                    }
                })
                .collect()
        };
        assert_eq!(message.payload, spaces(payload));
    } else {
        assert_eq!(message.payload, payload);
    }
    if encoding == Encoding::Base64 {
        let text = base64::engine::general_purpose::STANDARD.encode(payload);
        assert!(line.ends_with(format!("\"{text}\"}}").as_bytes()));
    }
}
