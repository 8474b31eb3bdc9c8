//! Answers that several verbs give.

use async_nats::HeaderMap as NatsHeaders;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::layers::Answer;
use crate::problem::Problem;
use crate::translate::headers::{Rules, to_http};

pub(super) use crate::layers::paid::paid;

/// The media type of one JSON document a line.
pub const NDJSON: &str = "application/x-ndjson";

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// What is known to be wrong before anything is awaited.
pub(super) fn refuse(problem: Problem) -> Answer {
    Box::pin(std::future::ready(problem.into_response()))
}

/// A 200 with a body of natsway's own words.
#[must_use]
pub fn ok(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

/// A 200 with JSON.
#[must_use]
pub fn json(body: impl Into<Body>) -> Response {
    ok("application/json", body)
}

/// A 200 with somebody else's payload, byte for byte, and its headers. A browser that is led here
/// must not take it for a page of this origin.
#[must_use]
pub fn payload(payload: impl Into<Body>, headers: Option<&NatsHeaders>, rules: &Rules) -> Response {
    let mut response = ok("application/octet-stream", payload);
    if let Some(headers) = headers {
        to_http(headers, response.headers_mut(), rules);
    }
    sandboxed(response)
}

/// The same answer as something that a browser shows without running it.
#[must_use]
pub fn sandboxed(mut response: Response) -> Response {
    const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox");
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, SANDBOX);
    response
}

/// Whether the client asks for this media type by name.
#[must_use]
pub fn asks_for(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|entry| is_type(entry, media_type) && quality(entry) > 0)
}

/// How much an entry of `Accept` is wanted, in thousandths; 0: not at all.
#[must_use]
pub fn quality(entry: &[u8]) -> u16 {
    let parameters = entry.split(|byte| *byte == b';').skip(1);
    let value = parameters
        .filter_map(|parameter| std::str::from_utf8(parameter).ok()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, value)| value.trim().parse::<f32>().ok())
        .unwrap_or(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1000"
    )]
    let thousandths = (value.clamp(0.0, 1.0) * 1000.0) as u16;
    thousandths
}

/// Whether a `Content-Type` or an entry of `Accept` is this media type, whatever its parameters.
#[must_use]
pub fn is_type(value: &[u8], media_type: &str) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(media_type.as_bytes())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_media_type_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert!(!asks_for(&headers, NDJSON));
        headers.append(ACCEPT, HeaderValue::from_static("*/*"));
        assert!(!asks_for(&headers, NDJSON));
        headers.append(
            ACCEPT,
            HeaderValue::from_static("text/html, Application/X-NDJSON ;q=0.9"),
        );
        assert!(asks_for(&headers, NDJSON));
        let mut unwanted = HeaderMap::new();
        for value in ["application/x-ndjson;q=0", "application/x-ndjson ; Q=0.0"] {
            unwanted.insert(ACCEPT, HeaderValue::from_static(value));
            assert!(!asks_for(&unwanted, NDJSON), "{value}");
        }
    }

    #[test]
    fn a_payload_is_given_back_as_it_is_and_never_as_a_page() {
        let mut nats = NatsHeaders::new();
        nats.append("Content-Type", "text/html");
        nats.append("Order-Id", "7");
        nats.append("Content-Security-Policy", "default-src *");
        let response = payload(Bytes::from_static(b"<p>"), Some(&nats), &Rules::default());
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html");
        assert_eq!(response.headers()["natsh-order-id"], "7");
        assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], "sandbox");
        let plain = payload(Bytes::new(), None, &Rules::default());
        assert_eq!(plain.headers()[CONTENT_TYPE], "application/octet-stream");
    }
}
