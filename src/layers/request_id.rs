//! The request id, and the last touch to every answer. Outermost: whatever fails inside is answered with
//! the id, and here the problems become JSON, after logs and metrics have read them as values.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use tower::Layer;

use super::{Handle, problem_event};
use crate::problem::Problem;

/// The name of the header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LENGTH_MAX: usize = 128;

/// The id, as a request extension.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Takes over what the client sent when it is sane: it goes into logs and answers as it is.
    fn of(headers: &HeaderMap) -> Self {
        headers
            .get(X_REQUEST_ID)
            .filter(|value| is_sane(value.as_bytes()))
            .map_or_else(Self::generate, |value| Self(value.clone()))
    }

    /// Unique for this process by the counter and among processes by the random prefix; nobody may
    /// guess anything from it but how many requests there were.
    fn generate() -> Self {
        static PREFIX: LazyLock<u64> = LazyLock::new(rand::random);
        static COUNTER: AtomicU64 = AtomicU64::new(1);
        let mut text = Stack {
            bytes: [0; 33],
            length: 0,
        };
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let written = write!(text, "{:016x}-{count:x}", *PREFIX);
        debug_assert!(written.is_ok(), "33 bytes fit");
        Self(HeaderValue::from_bytes(text.bytes()).expect("hexadecimal digits and a hyphen"))
    }
}

/// A short text on the stack.
struct Stack {
    bytes: [u8; 33],
    length: usize,
}

impl Stack {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl std::fmt::Write for Stack {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let room = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn is_sane(id: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    (1..=LENGTH_MAX).contains(&id.len()) && id.iter().all(legal)
}

/// Whether answers of the route are cached by nobody, or also passed on unbuffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One body.
    Whole,
    /// A stream: proxies must neither gather nor transform it.
    Stream,
}

/// The layer.
pub fn layer<N: Handle>(form: Form) -> impl Layer<N, Service = WithRequestId<N>> {
    tower::layer::layer_fn(move |next| WithRequestId { next, form })
}

/// See [`layer`].
#[derive(Debug)]
pub struct WithRequestId<N> {
    next: N,
    form: Form,
}

impl<N: Handle> Handle for WithRequestId<N> {
    async fn handle(&self, mut request: Request) -> Response {
        let id = RequestId::of(request.headers());
        request.extensions_mut().insert(id.clone());
        let as_event = self.form == Form::Stream && problem_event::is_wanted(&request);
        let mut response = self.next.handle(request).await;
        render(&mut response, &id, as_event);
        finish(&mut response, self.form);
        response.headers_mut().insert(X_REQUEST_ID, id.0);
        response
    }
}

fn render(response: &mut Response, id: &RequestId, as_event: bool) {
    if let Some(problem) = response.extensions().get::<Problem>().cloned() {
        if as_event && problem_event::render(response, &problem, id) {
            return;
        }
        let body = problem.to_json(Some(id.as_str())).to_string();
        *response.body_mut() = Body::from(body);
        // A router inside has already measured the empty body.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
}

fn finish(response: &mut Response, form: Form) {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    const NO_TRANSFORM: HeaderValue = HeaderValue::from_static("no-store, no-transform");
    const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    let streams = form == Form::Stream && response.status().is_success();
    let has_payload = !response.body().is_end_stream();
    let headers = response.headers_mut();
    if streams {
        headers.insert(CACHE_CONTROL, NO_TRANSFORM);
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    } else {
        headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    }
    if has_payload && headers.contains_key(CONTENT_TYPE) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Verb;
    use crate::problem::Code;
    use axum::response::IntoResponse as _;

    #[test]
    fn a_clients_id_is_taken_over_only_when_it_is_sane() {
        for (sent, taken) in [
            ("order-7:retry.2_a", true),
            (&*"x".repeat(128), true),
            (&*"x".repeat(129), false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a/b", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(sent).unwrap());
            assert_eq!(RequestId::of(&headers).as_str() == sent, taken, "{sent}");
        }
    }

    #[test]
    fn generated_ids_differ_and_are_sane() {
        let (first, second) = (RequestId::generate(), RequestId::generate());
        assert_ne!(first.as_str(), second.as_str());
        assert!(is_sane(first.as_str().as_bytes()));
    }

    #[tokio::test]
    async fn a_problem_becomes_json_with_the_id() {
        let failing = Verb::of_fn(|_| {
            Box::pin(async {
                let mut response = Problem::new(Code::Overloaded).into_response();
                response.headers_mut().insert(CONTENT_LENGTH, 0.into());
                response
            })
        });
        let stack = layer(Form::Stream).layer(failing);
        let request = Request::builder()
            .header(X_REQUEST_ID, "r-1")
            .body(Body::empty())
            .unwrap();
        let response = stack.handle(request).await;
        assert_eq!(response.headers()[X_REQUEST_ID], "r-1");
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["request_id"], "r-1");
        assert_eq!(body["code"], "overloaded");
    }
}
