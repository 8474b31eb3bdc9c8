//! NATS to HTTP.

use async_nats::header::{
    HeaderMap as NatsHeaders, HeaderName as NatsName, HeaderValue as NatsValue,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{HEADERS_BYTES_MAX, HEADERS_MAX, PREFIX, Rules, starts_with_ignore_case};
use crate::translate::{ContextHeader, is_traceparent};

/// Says that headers were left out.
pub const TRUNCATED: HeaderName = HeaderName::from_static("natsh-truncated");

/// Adds a message's headers to an answer.
///
/// A NATS header whose name or value is not legal in HTTP is left out, and so is everything that
/// would steer the HTTP connection, a browser's cookies or its cross-origin checks: whoever can
/// publish a message could otherwise act on the client.
pub fn to_http(nats: &NatsHeaders, http: &mut HeaderMap, rules: &Rules) {
    let mut names: Vec<_> = nats.iter().collect();
    // What is left out does not depend on the order in which a hash map holds them.
    names.sort_unstable_by(|(a, _), (b, _)| AsRef::<str>::as_ref(*a).cmp((*b).as_ref()));
    let (mut count, mut bytes) = (0, 0);
    for (nats_name, values) in names {
        let Some((name, form)) = http_name(nats_name, rules) else {
            continue;
        };
        // Written in two ways it is one context all the same, and the first counts.
        let is_context = matches!(form, Form::First | Form::Context);
        if is_context && http.contains_key(&name) {
            continue;
        }
        for value in values {
            if matches!(form, Form::First) && http.contains_key(&name) {
                break;
            }
            let Some(http_value) = http_value(&name, value) else {
                continue;
            };
            let length = name.as_str().len() + http_value.len() + ": \r\n".len();
            if count + 1 > HEADERS_MAX || bytes + length > HEADERS_BYTES_MAX {
                http.insert(TRUNCATED, HeaderValue::from_static("true"));
                continue;
            }
            count += 1;
            bytes += length;
            match form {
                Form::Single => drop(http.insert(name.clone(), http_value)),
                Form::List | Form::First | Form::Context => {
                    http.append(name.clone(), http_value);
                }
            }
        }
    }
}

/// The `traceparent` of a message, in whatever case its publisher wrote it.
#[must_use]
pub fn traceparent_in(nats: &NatsHeaders) -> Option<&str> {
    let is_parent =
        |name: &NatsName| ContextHeader::of(name.as_ref()) == Some(ContextHeader::Parent);
    let mut parents = nats.iter().filter(|(name, _)| is_parent(name));
    parents.find_map(|(_, values)| {
        let mut values = values.iter().map(NatsValue::as_str);
        values.find(|value| is_traceparent(value))
    })
}

enum Form {
    Single,
    List,
    /// A `traceparent`: the first that is whole.
    First,
    /// What goes with it.
    Context,
}

fn http_name(nats: &NatsName, rules: &Rules) -> Option<(HeaderName, Form)> {
    let text: &str = nats.as_ref();
    if text.eq_ignore_ascii_case("content-type") {
        return Some((header::CONTENT_TYPE, Form::Single));
    }
    if is_never_returned(text) || text.eq_ignore_ascii_case("truncated") {
        return None;
    }
    // Go's clients write `Traceparent`.
    if let Some(header) = ContextHeader::of(text) {
        let form = match header {
            ContextHeader::Parent => Form::First,
            ContextHeader::State | ContextHeader::Baggage => Form::Context,
        };
        return Some((HeaderName::from_static(header.as_str()), form));
    }
    if text.starts_with("ce-") {
        return Some((text.parse().ok()?, Form::List));
    }
    let listed = rules
        .returned
        .iter()
        .find(|name| name.as_str().eq_ignore_ascii_case(text));
    let name = match listed {
        Some(name) => name.clone(),
        None => HeaderName::from_bytes(&[PREFIX.as_bytes(), text.as_bytes()].concat()).ok()?,
    };
    Some((name, Form::List))
}

fn http_value(name: &HeaderName, value: &NatsValue) -> Option<HeaderValue> {
    if name == "traceparent" && !is_traceparent(value.as_str()) {
        return None;
    }
    HeaderValue::from_str(value.as_str())
        .or_else(|_| HeaderValue::from_bytes(value.as_str().as_bytes()))
        .ok()
}

/// Hop-by-hop, cookie and CORS headers.
pub(super) fn is_never_returned(name: &str) -> bool {
    const NEVER: [&str; 12] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "cookie",
        "set-cookie",
        "set-cookie2",
    ];
    NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
        || starts_with_ignore_case(name, "access-control-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nats(pairs: &[(&str, &str)]) -> NatsHeaders {
        let mut headers = NatsHeaders::new();
        for (name, value) in pairs {
            headers.append(
                name.parse::<NatsName>().unwrap(),
                value.parse::<NatsValue>().unwrap(),
            );
        }
        headers
    }

    fn http(pairs: &[(&str, &str)], rules: &Rules) -> HeaderMap {
        let mut headers = HeaderMap::new();
        to_http(&nats(pairs), &mut headers, rules);
        headers
    }

    #[test]
    fn headers_come_back_under_the_prefix_and_some_under_their_own_name() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut rules = Rules::default();
        rules.give_back("X-Cache").unwrap();
        let headers = http(
            &[
                ("Order-Id", "7"),
                ("Order-Id", "8"),
                ("content-type", "text/plain"),
                ("ce-id", "e1"),
                ("traceparent", parent),
                ("x-cache", "hit"),
                ("Nats-Service-Error", "no"),
            ],
            &rules,
        );
        let ids: Vec<_> = headers.get_all("natsh-order-id").iter().collect();
        assert_eq!(ids, ["7", "8"]);
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(headers["ce-id"], "e1");
        assert_eq!(headers["traceparent"], parent);
        assert_eq!(headers["x-cache"], "hit");
        assert_eq!(headers["natsh-nats-service-error"], "no");
        assert_eq!(headers.len(), 7);
    }

    #[test]
    fn a_trace_context_comes_back_in_whatever_case_it_was_written() {
        let parent = |span: &str| format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01");
        let (one, other) = (parent("b7ad6b7169203331"), parent("00f067aa0ba902b7"));
        let headers = http(
            &[
                ("Traceparent", "damaged"),
                ("TraceParent", &one),
                ("traceparent", &other),
                ("Tracestate", "a=1"),
                ("Tracestate", "b=2"),
                ("tracestate", "c=3"),
                ("Baggage", "d=4"),
            ],
            &Rules::default(),
        );
        let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("traceparent"), [&one]);
        assert_eq!(all("tracestate"), ["a=1", "b=2"]);
        assert_eq!(all("baggage"), ["d=4"]);
        assert_eq!(headers.len(), 4, "{headers:?}");
    }

    #[test]
    fn nothing_that_steers_http_comes_back() {
        let headers = http(
            &[
                ("Set-Cookie", "a=b"),
                ("cookie", "a=b"),
                ("Transfer-Encoding", "chunked"),
                ("CONNECTION", "close"),
                ("Access-Control-Allow-Origin", "*"),
                ("Truncated", "true"),
                ("traceparent", "damaged"),
                ("a/b", "no token"),
                ("Bell", "\u{7}"),
            ],
            &Rules::default(),
        );
        assert!(headers.is_empty(), "{headers:?}");
        let length = http(&[("Content-Length", "9")], &Rules::default());
        assert_eq!(length.get("content-length"), None);
    }

    #[test]
    fn too_many_are_left_out_and_the_answer_says_so() {
        let names: Vec<String> = (0..70).map(|n| format!("H-{n:02}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (&**name, "v")).collect();
        let headers = http(&pairs[..64], &Rules::default());
        assert_eq!((headers.len(), headers.get(TRUNCATED)), (64, None));
        let headers = http(&pairs, &Rules::default());
        assert_eq!(headers[TRUNCATED], "true");
        assert_eq!(headers.len(), 65);
        let big = "x".repeat(8 * 1024);
        let headers = http(
            &[("A", "small"), ("B", &big), ("C", "small")],
            &Rules::default(),
        );
        assert_eq!(headers["natsh-a"], "small");
        assert_eq!(headers["natsh-c"], "small");
        assert_eq!(headers.get("natsh-b"), None);
        assert_eq!(headers[TRUNCATED], "true");
    }
}
