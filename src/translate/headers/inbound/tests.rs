use proptest::prelude::*;

use super::*;
use crate::subject::Template;

fn http(pairs: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    headers
}

fn map(pairs: &[(&str, &[u8])]) -> Result<Option<NatsHeaders>, HeaderError> {
    to_nats(&http(pairs), &Rules::default())
}

fn one(headers: &NatsHeaders, name: &str) -> Option<String> {
    headers.get(name).map(ToString::to_string)
}

const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn what_is_mapped_has_its_nats_name() {
    let headers = map(&[
        ("content-type", b"application/json"),
        ("traceparent", PARENT),
        ("tracestate", b"a=1"),
        ("baggage", b"k=v"),
        ("ce-id", b"e1"),
        ("NatsH-order-id", b"7"),
        ("natsh-order-id", b"8"),
        ("natsh-x-ab-c", "gr\u{fc}n".as_bytes()),
        ("idempotency-key", b"k1"),
        ("accept", b"*/*"),
        ("authorization", b"Bearer x"),
        ("cookie", b"a=b"),
        ("natsway-x", b"stays"),
    ])
    .unwrap()
    .unwrap();
    assert_eq!(one(&headers, "Content-Type").unwrap(), "application/json");
    assert_eq!(one(&headers, "traceparent").unwrap().as_bytes(), PARENT);
    assert_eq!(one(&headers, "tracestate").unwrap(), "a=1");
    assert_eq!(one(&headers, "baggage").unwrap(), "k=v");
    assert_eq!(one(&headers, "ce-id").unwrap(), "e1");
    let ids: Vec<_> = headers
        .get_all("Order-Id")
        .map(ToString::to_string)
        .collect();
    assert_eq!(ids, ["7", "8"]);
    assert_eq!(one(&headers, "X-Ab-C").unwrap(), "gr\u{fc}n");
    assert_eq!(one(&headers, "Nats-Msg-Id").unwrap(), "k1");
    assert_eq!(headers.len(), 8);
}

#[test]
fn an_ordinary_request_maps_nothing() {
    let none = map(&[
        ("host", b"localhost"),
        ("user-agent", b"curl/8"),
        ("content-length", b"3"),
        (
            "content-type",
            b"application/x-www-form-urlencoded; charset=utf-8",
        ),
        ("nothing", b"x"),
        ("server", b"x"),
        ("keep-alive", b"x"),
    ]);
    assert_eq!(none, Ok(None));
}

#[test]
fn steering_headers_are_refused_and_the_parameter_is_named() {
    for (name, instead) in [
        ("Nats-Msg-Id", "Idempotency-Key"),
        ("natsh-nats-msg-id", "Idempotency-Key"),
        ("nats-expected-last-sequence", "expect_last_seq"),
        ("NatsH-Nats-TTL", "`ttl`"),
    ] {
        let error = map(&[(name, b"x")]).unwrap_err().to_string();
        assert!(error.contains(instead), "{name}: {error}");
    }
    for name in [
        "nats-rollup",
        "natsh-nats-rollup",
        "kv-operation",
        "NatsH-KV-Operation",
        "status",
        "natsh-status",
    ] {
        let error = map(&[(name, b"x")]).unwrap_err();
        assert!(
            matches!(error, HeaderError::NotAllowed { instead: None, .. }),
            "{name}"
        );
    }
}

#[test]
fn a_damaged_traceparent_is_dropped_with_its_state() {
    for damaged in [
        &b"00-x"[..],
        b"",
        b"\xff",
        b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
    ] {
        let headers = map(&[("traceparent", damaged), ("tracestate", b"a=1")]);
        assert_eq!(headers, Ok(None), "{damaged:?}");
    }
    assert_eq!(
        map(&[("traceparent", PARENT), ("traceparent", PARENT)]),
        Ok(None)
    );
}

#[test]
fn an_idempotency_key_is_visible_ascii_and_there_is_one() {
    for bad in [&b""[..], b"a b", b"\xc3\xa4", b"a\tb", &[b'k'; 257]] {
        let error = map(&[("idempotency-key", bad)]).unwrap_err();
        assert!(matches!(error, HeaderError::Invalid { .. }), "{bad:?}");
    }
    assert!(map(&[("idempotency-key", b"a"), ("idempotency-key", b"a")]).is_err());
    assert!(map(&[("idempotency-key", &[b'k'; 256])]).is_ok());
}

#[test]
fn values_that_nats_cannot_carry_are_refused() {
    for (name, value) in [
        ("natsh-a", &b"\xff"[..]),
        ("ce-x", b"\xff"),
        ("natsh-", b"x"),
        ("content-type", b"\xff"),
    ] {
        let error = map(&[(name, value)]).unwrap_err();
        assert!(matches!(error, HeaderError::Invalid { .. }), "{name}");
    }
    // A forwarded header no less, but one that stays behind may hold anything.
    assert_eq!(map(&[("x-any", b"\xff")]), Ok(None));
}

#[test]
fn the_limits_are_64_headers_and_8_kib() {
    let names: Vec<String> = (0..65).map(|n| format!("natsh-h{n}")).collect();
    let pairs: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &b"v"[..])).collect();
    assert_eq!(map(&pairs[..64]).unwrap().unwrap().len(), 64);
    assert_eq!(map(&pairs), Err(HeaderError::TooLarge));
    let fits = vec![b'x'; 8 * 1024 - "A: \r\n".len()];
    assert!(map(&[("natsh-a", &fits)]).is_ok());
    assert_eq!(map(&[("natsh-ab", &fits)]), Err(HeaderError::TooLarge));
}

#[test]
fn a_route_forwards_sets_and_overrides() {
    let mut rules = Rules::default().with_message_ids_of("create-order");
    rules.forward("X-Tenant").unwrap();
    rules
        .set("Order-Source", &Template::parse("web-{sku}").unwrap())
        .unwrap();
    rules
        .set("Page", &Template::parse("{query.page}").unwrap())
        .unwrap();
    let request = http(&[
        ("x-tenant", b"acme"),
        ("natsh-order-source", b"forged"),
        ("idempotency-key", b"k"),
    ]);
    let bound = to_nats_bound(&request, &rules, |name| (name == "sku").then_some("a1"));
    let headers = bound.unwrap().unwrap();
    assert_eq!(one(&headers, "X-Tenant").unwrap(), "acme");
    let source: Vec<_> = headers
        .get_all("Order-Source")
        .map(ToString::to_string)
        .collect();
    assert_eq!(source, ["web-a1"]);
    assert_eq!(one(&headers, "Page"), None);
    assert_eq!(one(&headers, "Nats-Msg-Id").unwrap(), "create-order:k");
    let injected = to_nats_bound(&request, &rules, |_| Some("a\r\nNats-Rollup: all"));
    assert!(matches!(injected, Err(HeaderError::Invalid { .. })));
}

#[test]
fn a_split_body_keeps_its_content_type_to_itself() {
    let request = http(&[("content-type", b"text/csv")]);
    assert_eq!(
        to_nats(&request, &Rules::default().without_content_type()),
        Ok(None)
    );
    let both = map(&[
        ("content-type", b"text/csv"),
        ("natsh-content-type", b"text/plain"),
    ]);
    let both = both.unwrap().unwrap();
    assert_eq!(both.get_all("Content-Type").count(), 1);
    assert_eq!(one(&both, "Content-Type").unwrap(), "text/plain");
}

proptest! {
    #[test]
    fn whatever_a_client_sends_stays_one_header_line(
        pairs in prop::collection::vec(
            (prop_oneof!["natsh-[a-z0-9-]{0,12}", "ce-[a-z]{0,6}", "[a-z][a-z-]{0,12}", "natsh-nats-[a-z]{1,4}"],
             prop::collection::vec(any::<u8>(), 0..24)),
            0..12,
        ),
    ) {
        let mut request = HeaderMap::new();
        for (name, value) in &pairs {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
                request.append(name, value);
            }
        }
        if let Ok(Some(headers)) = to_nats(&request, &Rules::default()) {
            let mut lines = 0;
            for (name, values) in headers.iter() {
                let name: &str = name.as_ref();
                prop_assert!(!name.is_empty() && !name.contains([':', ' ', '\r', '\n']));
                prop_assert!(name == "Nats-Msg-Id" || !is_steering(name));
                for value in values {
                    prop_assert!(!value.as_str().chars().any(|c| c.is_control() && c != '\t'));
                    lines += 1;
                }
            }
            prop_assert!(lines <= 64);
        }
    }
}
