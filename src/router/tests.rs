//! Every policy on every kind of route, through the whole stack and the real router.

mod forms;
mod limits;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::*;
use crate::config::{AccessLog, Concurrency, Cors, Policy, SizeLimit, WhenDisconnected};
use crate::layers::admission::StreamSlots;
use crate::layers::body::{MaxPayload, problem_of};
use crate::layers::cors::Origins;
use crate::layers::guard::Hosts;
use crate::layers::memory::Budget;
use crate::lifecycle::Lifecycle;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::Metrics;

const KINDS: [Kind; 3] = [
    Kind::Unary,
    Kind::Upload(Duration::from_secs(30)),
    Kind::Stream,
];

fn policy() -> Policy {
    Policy {
        timeout: Duration::from_secs(2),
        timeout_max: Duration::from_secs(4),
        concurrency: Concurrency { limit: 1, queue: 1 },
        rate: None,
        body_limit: SizeLimit::Bytes(100),
        breaker: None,
        when_disconnected: WhenDisconnected::Fail,
    }
}

struct House {
    shared: Shared,
    lifecycle: Lifecycle,
    /// Each answer takes one permit; without one the handler hangs.
    go: Arc<Semaphore>,
    entered: Arc<AtomicUsize>,
}

impl House {
    fn new() -> Self {
        let lifecycle = Lifecycle::new();
        let metrics = Arc::new(Metrics::new());
        let shared = Shared {
            kept: Kept::default(),
            drain: lifecycle.drain(),
            hosts: Hosts::default(),
            origins: Origins::new(&Cors {
                origins: vec!["https://app.example".parse().unwrap()],
            }),
            access_log: AccessLog::Off,
            tracer: None,
            streams: StreamSlots::new(100),
            bodies: Budget::new(1000, metrics.bodies()),
            body_timeout: Duration::from_secs(10),
            max_payload: MaxPayload::new(|| 1 << 20),
            compression: false,
            metrics,
        };
        Self {
            shared,
            lifecycle,
            go: Arc::new(Semaphore::new(0)),
            entered: Arc::default(),
        }
    }

    /// `POST /` (of a stream: `GET /`) waits for a permit and answers with a body; a stream's goes on until
    /// it is dropped.
    fn router(&self, kind: Kind, policy: Policy) -> Built {
        let method = match kind {
            Kind::Stream => Method::GET,
            _ => Method::POST,
        };
        let state = (Arc::clone(&self.go), Arc::clone(&self.entered), kind);
        let route = Route::new("r", method, "/", policy)
            .kind(kind)
            .handler(answer, state);
        Built::new(vec![route], &self.shared).unwrap()
    }

    fn entered(&self) -> usize {
        self.entered.load(Ordering::SeqCst)
    }
}

type Handled = (Arc<Semaphore>, Arc<AtomicUsize>, Kind);

async fn answer(
    axum::extract::State((go, entered, kind)): axum::extract::State<Handled>,
    request: Request,
) -> Result<Response, Problem> {
    entered.fetch_add(1, Ordering::SeqCst);
    request.into_body().collect().await.map_err(problem_of)?;
    go.acquire().await.unwrap().forget();
    Ok(match kind {
        Kind::Stream => {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
            let rest = futures_util::StreamExt::chain(first, stream::pending());
            Body::from_stream(rest).into_response()
        }
        _ => "done".into_response(),
    })
}

fn request(kind: Kind) -> Request {
    let method = match kind {
        Kind::Stream => Method::GET,
        _ => Method::POST,
    };
    Request::builder()
        .method(method)
        .uri("/")
        .body(Body::empty())
        .unwrap()
}

async fn send(router: &Built, request: Request) -> Response {
    router.answer(request.into()).await
}

async fn code(response: Response) -> String {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match problem["code"].as_str() {
        Some(code) => code.to_owned(),
        None => status.as_u16().to_string(),
    }
}

/// Lets everything that can go on go on.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn away() -> Problem {
    Problem::new(Code::NoResponders)
}
