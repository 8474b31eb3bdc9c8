//! Whatever a client sends, what is mapped is the same number of lines on the wire, none of which
//! steers NATS; and what comes back steers neither the connection nor a browser.
#![no_main]

use async_nats::HeaderMap as NatsHeaders;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use natsway::translate::ClientContext;
use natsway::translate::headers::{HEADERS_MAX, JsonHeaders, Rules, to_http, to_nats, wire_len};

fuzz_target!(|input: (Vec<(&str, &[u8])>, &str)| {
    let (pairs, json) = input;
    let mut request = HeaderMap::new();
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value))
        {
            request.append(name, value);
        }
    }
    let rules = Rules::default();
    if let Ok(Some(headers)) = to_nats(&request, &rules) {
        check(&headers, request.contains_key("idempotency-key"));
    }
    if let Ok(headers) = serde_json::from_str::<JsonHeaders<'_>>(json)
        && let Ok(Some(headers)) = headers.to_nats(ClientContext::Kept)
    {
        check(&headers, false);
    }
});

fn check(headers: &NatsHeaders, may_have_an_id: bool) {
    let mut wire = b"NATS/1.0\r\n".to_vec();
    let mut lines = 0;
    for (name, values) in headers.iter() {
        let lower = name.to_string().to_ascii_lowercase();
        let is_id = may_have_an_id && lower == "nats-msg-id";
        assert!(
            is_id || !lower.starts_with("nats-") && lower != "status" && lower != "kv-operation"
        );
        for value in values {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            lines += 1;
        }
    }
    wire.extend_from_slice(b"\r\n");
    assert_eq!(wire_len(Some(headers)), wire.len());
    assert_eq!(
        wire.iter()
            .filter(|byte| matches!(byte, b'\r' | b'\n'))
            .count(),
        2 * (lines + 2)
    );
    assert!(lines <= HEADERS_MAX + 1);

    let mut answer = HeaderMap::new();
    to_http(headers, &mut answer, &Rules::default());
    for name in answer.keys() {
        let name = name.as_str();
        let is_plain = ["content-type", "traceparent", "tracestate", "baggage"].contains(&name);
        assert!(
            is_plain || name.starts_with("natsh-") || name.starts_with("ce-"),
            "{name}"
        );
    }
}
