//! The HTTP client of the tests. Every answer that passes through it is checked for what the
//! contract says of all answers, so each test is a test of that, too.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use natsway::problem::Code;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::sse::{Block, Parser};
use super::{SOON, within};

/// A client of one natsway.
#[derive(Clone)]
pub(crate) struct Client {
    inner: reqwest::Client,
    base: String,
}

impl Client {
    /// Over HTTP/1.1 at `base`, such as `http://127.0.0.1:4280`.
    pub(crate) fn new(base: &str) -> Self {
        Self::from_builder(reqwest::Client::builder(), base)
    }

    /// Over HTTP/2 with prior knowledge.
    pub(crate) fn http2(base: &str) -> Self {
        let builder = reqwest::Client::builder().http2_prior_knowledge();
        Self::from_builder(builder, base)
    }

    /// Over a Unix socket.
    pub(crate) fn unix(path: &std::path::Path) -> Self {
        let builder = reqwest::Client::builder().unix_socket(path);
        Self::from_builder(builder, "http://localhost")
    }

    fn from_builder(builder: reqwest::ClientBuilder, base: &str) -> Self {
        let inner = builder
            .no_proxy()
            .build()
            .expect("an HTTP client without TLS");
        Self {
            inner,
            base: base.to_owned(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Request {
        self.request(Method::PUT, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        Request(self.inner.request(method, format!("{}{path}", self.base)))
    }

    /// Opens a subscription as server-sent events; the head is there, so NATS has it.
    pub(crate) async fn sse(&self, path: &str) -> Opened {
        self.get(path).stream().await.expect_ok()
    }

    /// Opens a subscription as NDJSON.
    pub(crate) async fn ndjson(&self, path: &str) -> Opened {
        let request = self.get(path).header("accept", "application/x-ndjson");
        request.stream().await.expect_ok()
    }
}

/// A request under construction.
pub(crate) struct Request(RequestBuilder);

impl Request {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn query(self, name: &str, value: &str) -> Self {
        Self(self.0.query(&[(name, value)]))
    }

    pub(crate) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        Self(self.0.json(value))
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self) -> Answer {
        self.try_send().await.expect("natsway answers")
    }

    /// The same where natsway may die underneath: without an answer there is only the error.
    pub(crate) async fn try_send(self) -> reqwest::Result<Answer> {
        let response = within(SOON, "an answer", self.0.send()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = within(SOON, "the body of an answer", response.bytes()).await?;
        let answer = Answer {
            status,
            headers,
            body,
        };
        answer.assert_hygiene();
        Ok(answer)
    }

    /// Sends it and returns with the head; a problem is read and checked.
    pub(crate) async fn stream(self) -> Opened {
        let response = within(SOON, "a head", self.0.send())
            .await
            .expect("natsway answers");
        let (status, headers) = (response.status(), response.headers().clone());
        assert_common_headers(status, &headers);
        if status.is_client_error() || status.is_server_error() {
            let body = within(SOON, "a problem", response.bytes()).await;
            let answer = Answer {
                status,
                headers: headers.clone(),
                body: body.expect("the problem's body"),
            };
            answer.assert_hygiene();
            return Opened::new(
                status,
                headers,
                futures_util::stream::iter([Ok(answer.body)]),
            );
        }
        Opened::new(status, headers, response.bytes_stream())
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The problem; fails where the answer is none.
    pub(crate) fn problem(&self) -> Value {
        assert!(is_failure(self.status), "{self:?} is not a problem");
        self.json()
    }

    /// The problem's `code`.
    pub(crate) fn code(&self) -> String {
        self.problem()["code"].as_str().expect("a code").to_owned()
    }

    /// Fails, showing the answer, unless it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// Fails unless it is this problem.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        let problem = self.expect(status).problem();
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }

    fn assert_hygiene(&self) {
        assert_common_headers(self.status, &self.headers);
        if is_failure(self.status) {
            assert_problem(self);
        }
    }
}

fn is_failure(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

fn assert_common_headers(status: StatusCode, headers: &HeaderMap) {
    let has = |name: &str| headers.contains_key(name);
    assert!(
        has("x-request-id"),
        "{status} without X-Request-Id: {headers:?}"
    );
    let cache = headers.get("cache-control").and_then(|v| v.to_str().ok());
    assert!(
        cache.is_some_and(|v| v.starts_with("no-store")),
        "{status} without Cache-Control: no-store: {headers:?}"
    );
    if matches!(status.as_u16(), 429 | 503) {
        assert!(
            has("retry-after"),
            "{status} without Retry-After: {headers:?}"
        );
    }
}

fn assert_problem(answer: &Answer) {
    let what = String::from_utf8_lossy(&answer.body).into_owned();
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"), "{what}");
    let problem = answer.json();
    assert_well_formed(&problem);
    assert_eq!(problem["status"], answer.status.as_u16(), "{what}");
    assert_eq!(
        problem["request_id"].as_str(),
        answer.header("x-request-id"),
        "{what}"
    );
}

/// What holds for a problem wherever it stands: in an answer, in a frame, in an event.
pub(crate) fn assert_well_formed(problem: &Value) {
    let word = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let code = word("code");
    let entry = Code::ALL.iter().find(|known| known.as_str() == code);
    assert!(entry.is_some(), "a code outside the catalogue: {problem}");
    assert_eq!(
        word("type"),
        format!("urn:natsway:problem:{code}"),
        "{problem}"
    );
    let one_of = |name: &str, words: &[&str]| {
        let found = word(name);
        assert!(words.contains(&found.as_str()), "{name} in {problem}");
    };
    one_of("outcome", &["not_sent", "rejected", "unknown"]);
    one_of("source", &["client", "bridge", "nats", "responder"]);
    assert!(problem["retryable"].is_boolean(), "{problem}");
    assert!(problem["status"].is_u64(), "{problem}");
    assert!(
        !word("title").is_empty() && !word("detail").is_empty(),
        "{problem}"
    );
}

type Chunks = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// An answer whose body is still coming.
pub(crate) struct Opened {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    chunks: Chunks,
    events: Parser,
    line: BytesMut,
}

impl Opened {
    fn new(
        status: StatusCode,
        headers: HeaderMap,
        chunks: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self {
            status,
            headers,
            chunks: Box::pin(chunks),
            events: Parser::default(),
            line: BytesMut::new(),
        }
    }

    /// Fails unless the status is 200.
    pub(crate) fn expect_ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.headers);
        self
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next block that a browser would dispatch; nothing at the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<Block> {
        loop {
            let block = self.block().await?;
            if block.is_event() {
                return Some(block);
            }
        }
    }

    /// The next block of any kind: comments and bare ids as well.
    pub(crate) async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.events.next() {
                return Some(block);
            }
            let chunk = self.chunk().await?;
            self.events.feed(&chunk);
        }
    }

    /// The next line of NDJSON, without the keep-alive's blanks; nothing at the end of the stream.
    pub(crate) async fn json_line(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.line.iter().position(|byte| *byte == b'\n') {
                let line = self.line.split_to(at + 1);
                let value = serde_json::from_slice(&line);
                return Some(value.unwrap_or_else(|error| panic!("{error} in {line:?}")));
            }
            let chunk = self.chunk().await?;
            self.line.extend_from_slice(&chunk);
        }
    }

    /// The next bytes as they come; nothing at the end, clean or not.
    pub(crate) async fn chunk(&mut self) -> Option<Bytes> {
        within(SOON, "more of a stream", self.chunks.next())
            .await?
            .ok()
    }

    /// The next bytes; the error where the stream broke off.
    pub(crate) async fn try_chunk(&mut self) -> Option<reqwest::Result<Bytes>> {
        within(SOON, "more of a stream", self.chunks.next()).await
    }

    /// All that remains.
    pub(crate) async fn rest(&mut self) -> Bytes {
        let mut rest = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            rest.extend_from_slice(&chunk);
        }
        rest.freeze()
    }
}
