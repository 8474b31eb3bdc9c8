//! The request id, and the last touch to every answer. Outermost: whatever fails inside is answered with
//! the id, and here the problems become JSON, after logs and metrics have read them as values.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use tower::Layer;

use super::paid::paid;
use super::{Handle, Request, problem_event};
use crate::problem::Problem;

/// The name of the header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LENGTH_MAX: usize = 128;

/// What a request is called.
#[derive(Clone, Debug)]
pub enum RequestId {
    /// By its client. Shared, so that the many who hold an id need little room for it.
    Given(Arc<HeaderValue>),
    /// By natsway, which counts. Written out only where somebody reads it.
    Counted(u64),
}

/// `{prefix:016x}-{count:x}` at its longest.
const COUNTED_MAX: usize = 33;

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Given(value) => value.to_str().unwrap_or_default().into(),
            Self::Counted(count) => {
                let mut room = [0; COUNTED_MAX];
                let text = str::from_utf8(counted(*count, &mut room));
                text.unwrap_or_default().to_owned().into()
            }
        }
    }

    fn into_header(self) -> HeaderValue {
        match self {
            Self::Given(value) => (*value).clone(),
            Self::Counted(count) => {
                let mut room = [0; COUNTED_MAX];
                HeaderValue::from_bytes(counted(count, &mut room))
                    .expect("hexadecimal digits and a hyphen")
            }
        }
    }

    /// Takes over what the client sent when it is sane: it goes into logs and answers as it is.
    fn of(headers: &HeaderMap) -> Self {
        headers
            .get(X_REQUEST_ID)
            .filter(|value| is_sane(value.as_bytes()))
            .map_or_else(Self::generate, |value| Self::Given(Arc::new(value.clone())))
    }

    /// Unique for this process by the counter and among processes by the random prefix; nobody may
    /// guess anything from it but roughly how many requests there were.
    fn generate() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static OWN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
        }
        let (mut next, mut end) = OWN.get();
        if next == end {
            next = NEXT.fetch_add(NUMBERS, Ordering::Relaxed);
            end = next + NUMBERS;
        }
        OWN.set((next + 1, end));
        Self::Counted(next)
    }
}

/// A thread takes so many numbers at once: it is not to write, for each request, a word that others write.
const NUMBERS: u64 = 256;

fn counted(count: u64, room: &mut [u8; COUNTED_MAX]) -> &[u8] {
    static PREFIX: LazyLock<[u8; 16]> = LazyLock::new(|| {
        let mut digits = [0; 16];
        hexadecimal(rand::random(), &mut digits);
        digits
    });
    room[..16].copy_from_slice(&*PREFIX);
    room[16] = b'-';
    let digits = (64 - count.leading_zeros()).div_ceil(4).max(1) as usize;
    hexadecimal(count, &mut room[17..17 + digits]);
    &room[..17 + digits]
}

/// Writes the lowest digits of a number, as many as there is room for.
fn hexadecimal(mut number: u64, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
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
    async fn handle(&self, mut request: Box<Request>) -> Response {
        let id = RequestId::of(request.headers());
        request.context.id = Some(id.clone());
        let as_event = self.form == Form::Stream && problem_event::is_wanted(&request);
        let mut response = self.next.handle(request).await;
        render(&mut response, &id, as_event);
        finish(&mut response, self.form);
        response
            .headers_mut()
            .insert(X_REQUEST_ID, id.into_header());
        response
    }
}

fn render(response: &mut Response, id: &RequestId, as_event: bool) {
    // Taken out, so that what it passes on is not there twice.
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if as_event && problem_event::render(response, &problem, id) {
            return;
        }
        let body = problem.to_text(Some(&id.to_text()));
        *response.body_mut() = match problem.held() {
            Some(held) => paid(body.into(), held),
            None => Body::from(body),
        };
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
            assert_eq!(RequestId::of(&headers).to_text() == sent, taken, "{sent}");
        }
    }

    #[test]
    fn generated_ids_differ_and_are_sane() {
        let (first, second) = (RequestId::generate(), RequestId::generate());
        assert_ne!(first.to_text(), second.to_text());
        assert!(is_sane(first.to_text().as_bytes()));
    }

    #[test]
    fn threads_do_not_give_the_same_number() {
        let numbers = || (0..1000).map(|_| RequestId::generate().to_text().into_owned());
        let threads = [(); 4].map(|()| std::thread::spawn(move || numbers().collect::<Vec<_>>()));
        let all = threads.map(|thread| thread.join().unwrap()).concat();
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), 4000);
    }

    #[test]
    fn counts_are_written_without_leading_zeros() {
        let text = |count| RequestId::Counted(count).to_text()[16..].to_owned();
        for (count, written) in [(0, "-0"), (15, "-f"), (16, "-10"), (0xabc, "-abc")] {
            assert_eq!(text(count), written);
        }
        assert_eq!(text(u64::MAX), "-ffffffffffffffff");
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
        let request = http::Request::builder()
            .header(X_REQUEST_ID, "r-1")
            .body(Body::empty())
            .unwrap();
        let response = stack.handle(request.into()).await;
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
