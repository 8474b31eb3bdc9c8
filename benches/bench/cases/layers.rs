//! What each layer of the unary stack costs where it is not configured, alone around a handler that
//! does nothing, and all of them together. Nanoseconds a request, of one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode};
use natsway::config::{AccessLog, Concurrency, Cors, SizeLimit};
use natsway::layers::admission::Places;
use natsway::layers::body::{Intake, MaxPayload, Rules};
use natsway::layers::context::Context;
use natsway::layers::cors::Origins;
use natsway::layers::deadline::{Deadline, Timeouts};
use natsway::layers::guard::Hosts;
use natsway::layers::memory::Budget;
use natsway::layers::peer::{Local, Peer};
use natsway::layers::request_id::Form;
use natsway::layers::{
    Handle, Request, Verb, access_log, admission, body, breaker, cors, deadline, encoding, guard,
    panic, rate, request_id, trace,
};
use natsway::lifecycle::Lifecycle;
use natsway::telemetry::metrics::Metrics;
use tower::{Layer, ServiceBuilder};

use crate::report::Report;

const REQUESTS: u32 = 200_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the layers are made from.
struct House {
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
    peer: Arc<Peer>,
}

pub(super) async fn measure(report: &mut Report, rounds: u64) {
    let house = House {
        metrics: Arc::new(Metrics::new()),
        lifecycle: Lifecycle::new(),
        peer: Arc::new(Peer {
            local: Arc::new(Local::Tcp("127.0.0.1:4280".parse().unwrap())),
            remote: Some("127.0.0.1:50000".parse().unwrap()),
        }),
    };
    for _ in 0..rounds {
        house.round(report).await;
    }
}

impl House {
    async fn round(&self, report: &mut Report) {
        let nothing = self.nanoseconds(verb()).await;
        let metrics = Arc::new(self.metrics.route("bench", "POST"));
        let named = access_log::Named {
            route: "bench".into(),
            path: "/v1/publish/{subject}".into(),
            method: Method::POST,
        };
        let origins = Origins::new(&Cors::default());
        let timeouts = Timeouts {
            default: TIMEOUT,
            max: TIMEOUT,
        };
        let (waiting, drain) = (metrics.waiting.clone(), self.lifecycle.drain());
        let places = Arc::new(Places::new(Concurrency::default(), waiting, drain));
        // A layer is made for what it wraps, so each is written once and made twice.
        macro_rules! measure {
            ($($name:literal $layer:expr),* $(,)?) => {
                $(
                    let took = self.nanoseconds($layer.layer(verb())).await;
                    report.add(concat!("layer ", $name), &[("ns", took - nothing)]);
                )*
                let stack = ServiceBuilder::new()$(.layer($layer))*.service(verb());
                let took = self.nanoseconds(stack).await;
                report.add("layers together", &[("ns", took - nothing)]);
            };
        }
        measure!(
            "request_id" request_id::layer(Form::Whole),
            "trace" trace::layer(None, named.clone()),
            "access_log" access_log::layer(named.clone(), Arc::clone(&metrics), AccessLog::Errors),
            "cors" cors::layer(&origins, HeaderValue::from_static("POST")),
            "panic" panic::layer(),
            "guard" guard::layer(&Hosts::default(), &origins),
            "encoding" encoding::layer(),
            "deadline" deadline::layer(timeouts, &self.lifecycle.drain()),
            "rate" rate::layer(None),
            "breaker" breaker::layer(None, TIMEOUT),
            "gate" admission::gate(Arc::clone(&places)),
            "body" body::layer(self.rules()),
            "admission" admission::layer(Arc::clone(&places)),
        );
    }

    fn rules(&self) -> Rules {
        Rules {
            limit: SizeLimit::Auto,
            max_payload: MaxPayload::new(|| 1 << 20),
            intake: Intake::Whole(Duration::from_secs(30)),
            budget: Budget::new(64 << 20, self.metrics.bodies()),
            drain: self.lifecycle.drain(),
        }
    }

    /// What one request takes, its making included, which is the same for all.
    async fn nanoseconds(&self, stack: impl Handle) -> f64 {
        let start = Instant::now();
        for _ in 0..REQUESTS {
            black_box(stack.handle(self.request()).await);
        }
        start.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
    }

    fn request(&self) -> Box<Request> {
        let mut request = http::Request::new(Body::from(&[b'x'; 128][..]));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(
            http::header::HOST,
            HeaderValue::from_static("127.0.0.1:4280"),
        );
        headers.insert(
            http::header::CONTENT_LENGTH,
            HeaderValue::from_static("128"),
        );
        let context = Context {
            peer: Some(self.peer.clone()),
            // As the connection does, which has read the clock for its own timer.
            began: Some(tokio::time::Instant::now()),
            deadline: Some(Deadline::after(TIMEOUT)),
            is_polled_at_the_end: true,
            ..Context::default()
        };
        Box::new(Request {
            http: request,
            context,
        })
    }
}

fn verb() -> Verb {
    Verb::of_fn(|request| {
        drop(black_box(request));
        Box::pin(async {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        })
    })
}
