//! Every policy on every kind of route, through the whole stack and the real router.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance};
use tower::ServiceExt;

use super::*;
use crate::config::{
    AccessLog, Breaker, Concurrency, Cors, Policy, Rate, SizeLimit, WhenDisconnected,
};
use crate::layers::admission::StreamSlots;
use crate::layers::body::{self, MaxPayload};
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
            drain: lifecycle.drain(),
            hosts: Hosts::default(),
            origins: Origins::new(&Cors {
                origins: vec!["https://app.example".parse().unwrap()],
            }),
            access_log: AccessLog::Off,
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
    fn router(&self, kind: Kind, policy: Policy) -> Router {
        let method = match kind {
            Kind::Stream => Method::GET,
            _ => Method::POST,
        };
        let state = (Arc::clone(&self.go), Arc::clone(&self.entered), kind);
        let route = Route::new("r", method, "/", policy)
            .kind(kind)
            .handler(answer, state);
        Built::new(vec![route], &self.shared).unwrap().router
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
    body::collect(request.into_body()).await?;
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

async fn send(router: &Router, request: Request) -> Response {
    router.clone().oneshot(request).await.unwrap()
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

#[tokio::test(start_paused = true)]
async fn at_the_limit_one_waits_until_its_deadline_and_the_next_is_shed_at_once() {
    for kind in [KINDS[0], KINDS[1]] {
        let house = House::new();
        let router = house.router(kind, policy());
        let first = tokio::spawn(router.clone().oneshot(request(kind)));
        settle().await;
        let start = Instant::now();
        let waiting = tokio::spawn(router.clone().oneshot(request(kind)));
        settle().await;
        let shed = send(&router, request(kind)).await;
        assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(shed.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(code(shed).await, "overloaded");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(code(waiting.await.unwrap().unwrap()).await, "overloaded");
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(house.entered(), 1);
        house.go.add_permits(1);
        assert_eq!(code(first.await.unwrap().unwrap()).await, "200");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_as_long_as_the_request_says() {
    let house = House::new();
    let router = house.router(Kind::Unary, policy());
    let _first = tokio::spawn(router.clone().oneshot(request(Kind::Unary)));
    settle().await;
    let start = Instant::now();
    let hasty = Request::post("/?timeout=300ms")
        .body(Body::empty())
        .unwrap();
    assert_eq!(code(send(&router, hasty).await).await, "overloaded");
    assert_eq!(start.elapsed(), Duration::from_millis(300));
    let greedy = Request::post("/?timeout=5s").body(Body::empty()).unwrap();
    assert_eq!(code(send(&router, greedy).await).await, "invalid-parameter");
}

#[tokio::test(start_paused = true)]
async fn a_stream_at_the_limit_is_shed_at_once() {
    let house = House::new();
    let router = house.router(Kind::Stream, policy());
    house.go.add_permits(5);
    let open = send(&router, request(Kind::Stream)).await;
    let start = Instant::now();
    assert_eq!(
        code(send(&router, request(Kind::Stream)).await).await,
        "overloaded"
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(open);
    assert_eq!(send(&router, request(Kind::Stream)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn streams_of_the_process_are_counted_over_routes_and_told_apart() {
    let house = House::new();
    house.shared.streams.set_max(1);
    house.go.add_permits(5);
    let (one, other) = (
        house.router(Kind::Stream, policy()),
        house.router(Kind::Stream, policy()),
    );
    let open = send(&one, request(Kind::Stream)).await;
    let refused = send(&other, request(Kind::Stream)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(code(refused).await, "too-many-streams");
    drop(open);
    assert_eq!(send(&other, request(Kind::Stream)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_when_the_client_goes_away_or_the_answer_ends() {
    for kind in KINDS {
        let house = House::new();
        let router = house.router(kind, policy());
        let gone = tokio::spawn(router.clone().oneshot(request(kind)));
        settle().await;
        assert_eq!(house.entered(), 1);
        gone.abort();
        let _ = gone.await;
        house.go.add_permits(2);
        let mut response = send(&router, request(kind)).await;
        assert_eq!(response.status(), 200, "{kind:?}");
        response.body_mut().frame().await.unwrap().unwrap();
        drop(response);
        assert_eq!(send(&router, request(kind)).await.status(), 200, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_still_waits_when_grace_is_over_is_answered() {
    for kind in KINDS {
        let house = House::new();
        let router = house.router(kind, policy());
        let running = tokio::spawn(router.clone().oneshot(request(kind)));
        settle().await;
        house.lifecycle.start_draining();
        settle().await;
        assert!(!running.is_finished());
        house.lifecycle.expire();
        let response = running.await.unwrap().unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem["code"], "shutting-down", "{kind:?}");
        assert_eq!(problem["outcome"], "unknown", "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_on_every_kind_of_route() {
    for kind in KINDS {
        let house = House::new();
        house.go.add_permits(10);
        let rate = Rate {
            limit: "1/h".parse().unwrap(),
            burst: Some(2),
            key: "route".parse().unwrap(),
        };
        let policy = Policy {
            rate: Some(rate),
            concurrency: Concurrency { limit: 5, queue: 0 },
            ..policy()
        };
        let router = house.router(kind, policy);
        for left in ["1", "0"] {
            let response = send(&router, request(kind)).await;
            assert_eq!(response.status(), 200);
            let state = response.headers()["ratelimit"].to_str().unwrap();
            assert!(state.contains(&format!("r={left}")), "{state}");
        }
        let refused = send(&router, request(kind)).await;
        assert_eq!(refused.status(), 429);
        let seconds = refused.headers()[header::RETRY_AFTER].to_str().unwrap();
        assert!(seconds.parse::<u64>().unwrap() > 3000, "{seconds}");
        assert_eq!(
            refused.headers()["ratelimit-policy"],
            "\"route\";q=1;w=3600"
        );
        assert_eq!(code(refused).await, "rate-limited");
        assert_eq!(house.entered(), 2);
    }
}

async fn away() -> Problem {
    Problem::new(Code::NoResponders)
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_on_every_kind_of_route_and_sheds_before_the_queue() {
    for kind in KINDS {
        let house = House::new();
        let method = request(kind).method().clone();
        let breaker = Breaker {
            failures: 2,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        };
        let policy = Policy {
            breaker: Some(breaker),
            ..policy()
        };
        let route = Route::new("r", method, "/", policy)
            .kind(kind)
            .handler(away, ());
        let router = Built::new(vec![route], &house.shared).unwrap().router;
        for expected in [
            "no-responders",
            "no-responders",
            "circuit-open",
            "circuit-open",
        ] {
            assert_eq!(code(send(&router, request(kind)).await).await, expected);
        }
        advance(Duration::from_secs(5)).await;
        for expected in ["no-responders", "circuit-open"] {
            assert_eq!(code(send(&router, request(kind)).await).await, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_limited_timed_and_paid_for() {
    let house = House::new();
    house.go.add_permits(10);
    let router = house.router(Kind::Unary, policy());
    let post = |body: Body| Request::post("/").body(body).unwrap();
    let refused = send(&router, post(vec![0; 101].into())).await;
    assert_eq!(refused.status(), 413);
    assert_eq!(
        house.entered(),
        0,
        "a declared length is judged before the handler"
    );
    let chunked = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(vec![0; 101])]));
    assert_eq!(
        code(send(&router, post(chunked)).await).await,
        "payload-too-large"
    );
    house.shared.bodies.set_limit(50);
    let start = Instant::now();
    for body in [vec![0; 51].into(), Body::from_stream(silence())] {
        assert_eq!(code(send(&router, post(body)).await).await, "overloaded");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    house.shared.bodies.set_limit(1000);
    let silent = Body::from_stream(silence());
    assert_eq!(
        code(send(&router, post(silent)).await).await,
        "body-timeout"
    );
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let encoded = Request::post("/").header("content-encoding", "gzip");
    let refused = send(&router, encoded.body("x".into()).unwrap()).await;
    assert_eq!(refused.headers()[header::ACCEPT_ENCODING], "identity");
    assert_eq!(code(refused).await, "unsupported-media-type");
    assert_eq!(code(send(&router, post("fine".into())).await).await, "200");
}

fn silence() -> stream::Pending<std::io::Result<Bytes>> {
    stream::pending()
}

async fn bug() -> Response {
    panic!("on purpose")
}

#[tokio::test]
async fn a_panic_is_answered_and_its_place_is_free_again() {
    for kind in KINDS {
        let house = House::new();
        let method = request(kind).method().clone();
        let route = Route::new("r", method, "/", policy())
            .kind(kind)
            .handler(bug, ());
        let router = Built::new(vec![route], &house.shared).unwrap().router;
        for _ in 0..3 {
            let response = send(&router, request(kind)).await;
            assert_eq!(response.status(), 500);
            assert_eq!(code(response).await, "internal");
        }
    }
}

#[tokio::test]
async fn a_listed_page_may_read_every_answer_and_others_are_refused() {
    for kind in KINDS {
        let house = House::new();
        house.go.add_permits(10);
        let router = house.router(kind, policy());
        let from = |origin: &str, mut request: Request| {
            request
                .headers_mut()
                .insert(header::ORIGIN, origin.parse().unwrap());
            request
        };
        let allowed = |response: &Response| {
            let headers = response.headers();
            assert!(
                headers
                    .get_all(header::VARY)
                    .iter()
                    .any(|vary| vary == "Origin")
            );
            headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        let response = send(&router, from("https://app.example", request(kind))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(allowed(&response).unwrap(), "https://app.example");
        drop(response);
        let nowhere = Request::get("/nowhere").body(Body::empty()).unwrap();
        let response = send(&router, from("https://app.example", nowhere)).await;
        assert_eq!(response.status(), 404);
        assert_eq!(allowed(&response).unwrap(), "https://app.example");
        for origin in ["https://evil.example", "null", "https://app.example.evil"] {
            let response = send(&router, from(origin, request(kind))).await;
            assert_eq!(response.status(), 403, "{origin}");
            assert_eq!(allowed(&response), None);
            assert_eq!(code(response).await, "origin-not-allowed");
        }
        let preflight = |origin: &str| {
            let request = Request::builder().method(Method::OPTIONS).uri("/");
            let request = request
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "natsh-order-id");
            from(origin, request.body(Body::empty()).unwrap())
        };
        let response = send(&router, preflight("https://app.example")).await;
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        let method = request(kind).method().to_string();
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_METHODS], method);
        assert_eq!(
            headers[header::ACCESS_CONTROL_ALLOW_HEADERS],
            "natsh-order-id"
        );
        assert_eq!(
            send(&router, preflight("https://evil.example"))
                .await
                .status(),
            403
        );
    }
}

#[tokio::test]
async fn head_and_other_methods_are_refused_with_what_is_allowed() {
    let house = House::new();
    house.go.add_permits(10);
    let read = Route::new("read", Method::GET, "/x/{id}", policy())
        .with_head()
        .handler(answer, (Arc::clone(&house.go), Arc::default(), Kind::Unary));
    let write = Route::new("write", Method::PUT, "/x/{id}", policy())
        .handler(answer, (Arc::clone(&house.go), Arc::default(), Kind::Unary));
    let feed = Route::new("feed", Method::GET, "/feed", policy())
        .kind(Kind::Stream)
        .handler(
            answer,
            (Arc::clone(&house.go), Arc::default(), Kind::Stream),
        );
    let router = Built::new(vec![read, write, feed], &house.shared)
        .unwrap()
        .router;
    for (method, path, status, allow) in [
        (Method::HEAD, "/x/1", 200, None),
        (Method::GET, "/x/1", 200, None),
        (Method::DELETE, "/x/1", 405, Some("GET, HEAD, PUT")),
        (Method::HEAD, "/feed", 405, Some("GET")),
        (Method::OPTIONS, "/feed", 405, Some("GET")),
    ] {
        let request = Request::builder().method(&method).uri(path);
        let response = send(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{method} {path}");
        let allowed = response.headers().get(header::ALLOW);
        assert_eq!(
            allowed.map(|value| value.to_str().unwrap()),
            allow,
            "{method} {path}"
        );
    }
}

#[test]
fn routes_that_cannot_be_told_apart_are_refused_by_name() {
    let house = House::new();
    let route = |name: &'static str, path: &'static str| {
        Route::new(name, Method::GET, path, policy()).handler(away, ())
    };
    let same = Built::new(vec![route("a", "/x"), route("b", "/x")], &house.shared);
    let why = same.unwrap_err().to_string();
    assert!(
        why.contains(" b ") && why.contains(" a has the same"),
        "{why}"
    );
    let alike = Built::new(vec![route("a", "/{x}"), route("b", "/{y}")], &house.shared);
    assert!(alike.unwrap_err().to_string().contains("cannot be added"));
}

#[tokio::test]
async fn compression_is_for_whole_answers_only() {
    async fn long() -> Response {
        ([(header::CONTENT_TYPE, "text/plain")], "x".repeat(4096)).into_response()
    }
    async fn lines() -> Response {
        let lines = stream::iter([Ok::<_, std::io::Error>("{}\n".repeat(1000))]);
        (
            [(header::CONTENT_TYPE, "application/x-ndjson")],
            Body::from_stream(lines),
        )
            .into_response()
    }
    let mut house = House::new();
    house.shared.compression = true;
    let routes = vec![
        Route::new("long", Method::GET, "/long", policy()).handler(long, ()),
        Route::new("lines", Method::GET, "/lines", policy()).handler(lines, ()),
        Route::new("feed", Method::GET, "/feed", policy())
            .kind(Kind::Stream)
            .handler(long, ()),
    ];
    let router = Built::new(routes, &house.shared).unwrap().router;
    for (path, accept, coding) in [
        ("/long", "gzip", Some("gzip")),
        ("/long", "zstd", Some("zstd")),
        ("/long", "", None),
        ("/lines", "gzip", None),
        ("/feed", "gzip", None),
    ] {
        let request = Request::get(path).header(header::ACCEPT_ENCODING, accept);
        let response = send(&router, request.body(Body::empty()).unwrap()).await;
        let found = response.headers().get(header::CONTENT_ENCODING);
        assert_eq!(
            found.map(|value| value.to_str().unwrap()),
            coding,
            "{path} {accept}"
        );
    }
}
