//! `errors=event`: a retryable problem as one event of a 200. `EventSource` gives up for ever on any
//! other status, so a page that asks for this is told when to come back instead.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ACCEPT, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, StatusCode};

use super::request_id::RequestId;
use crate::problem::Problem;
use crate::translate::sse::{self, Block};

/// Whether the request wants its problems as events: its query says so, and it reads events.
pub(super) fn is_wanted(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let asked = query.split('&').any(|pair| pair == "errors=event");
    let accepts_other = |value: &HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        !value.trim().is_empty() && !value.contains("text/") && !value.contains("*/*")
    };
    asked
        && !request.headers().contains_key(UPGRADE)
        && !request.headers().get(ACCEPT).is_some_and(accepts_other)
}

/// Writes the problem into the response, where trying again may help.
pub(super) fn render(response: &mut Response, problem: &Problem, id: &RequestId) -> bool {
    if !problem.is_retryable() {
        return false;
    }
    let after = Duration::from_secs(problem.retry_after_seconds().unwrap_or(1));
    let block = Block {
        // Spread, so that those who failed together do not return together.
        retry: Some(after + after.mul_f64(rand::random_range(0.0..=4.0))),
        event: Some("problem"),
        ..Block::default()
    };
    let data = problem.to_text(Some(&id.to_text()));
    let mut event = Vec::new();
    block.write(Some(data.as_bytes()), &mut event);
    *response.body_mut() = Body::from(event);
    *response.status_mut() = StatusCode::OK;
    let content_type = HeaderValue::from_static(sse::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(uri: &str, headers: &[(&'static str, &str)]) -> bool {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_wanted(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn only_a_reader_of_events_that_asks_gets_them() {
        assert!(wanted("/a?x=1&errors=event", &[]));
        assert!(wanted(
            "/a?errors=event",
            &[("accept", "text/event-stream")]
        ));
        assert!(wanted("/a?errors=event", &[("accept", "*/*")]));
        assert!(!wanted("/a?errors=status", &[]));
        assert!(!wanted("/a", &[]));
        assert!(!wanted(
            "/a?errors=event",
            &[("accept", "application/x-ndjson")]
        ));
        assert!(!wanted("/a?errors=event", &[("upgrade", "websocket")]));
    }
}
