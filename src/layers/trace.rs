//! The server span of a sampled request, and what becomes of its `traceparent` on the way in. Just inside
//! the request id, so that it sees every answer, and around the log, whose lines name this span.
//!
//! The span becomes the caller in the headers: whatever a verb forwards belongs below it. It ends with the
//! head of the answer; the life of a stream has metrics of its own.

use std::sync::Arc;

use axum::response::Response;
use tower::Layer;

use super::access_log::Named;
use super::{Handle, Request};
use crate::problem::Problem;
use crate::telemetry::traces::{Decision, Origin, Span, SpanKind, Tracer, names};

/// The layer; without a tracer it does nothing.
pub fn layer<N: Handle>(
    tracer: Option<Tracer>,
    named: Named,
) -> impl Layer<N, Service = Traced<N>> {
    let tracer = tracer.map(|tracer| Arc::new((tracer, named)));
    tower::layer::layer_fn(move |next| Traced {
        next,
        tracer: tracer.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct Traced<N> {
    next: N,
    tracer: Option<Arc<(Tracer, Named)>>,
}

impl<N: Handle> Handle for Traced<N> {
    async fn handle(&self, mut request: Box<Request>) -> Response {
        let span = self
            .tracer
            .as_ref()
            .and_then(|tracer| enter(&tracer.0, &tracer.1, &mut request))
            .map(Box::new);
        let response = self.next.handle(request).await;
        if let Some(span) = span {
            leave(*span, &response);
        }
        response
    }
}

fn enter(tracer: &Tracer, named: &Named, request: &mut Request) -> Option<Span> {
    let origin = match tracer.decide(request.headers()) {
        Decision::Forward => return None,
        Decision::Forget => {
            tracer.forget_caller(request.headers_mut());
            return None;
        }
        Decision::Record(origin) => origin,
    };
    if !origin.continues() {
        tracer.forget_caller(request.headers_mut());
    }
    let span = begin(*origin, named, request);
    span.write_to(request.headers_mut());
    request.extensions_mut().insert(span.below());
    Some(span)
}

fn begin(origin: Origin, named: &Named, request: &Request) -> Span {
    let method = request.method().as_str();
    let mut span = Span::begin(origin, SpanKind::Server, &[method, " ", &named.path]);
    span.set(names::HTTP_REQUEST_METHOD, method);
    span.set(names::HTTP_ROUTE, &*named.path);
    span.set(names::ROUTE, &*named.route);
    span.set(names::URL_SCHEME, "http");
    if let Some(id) = &request.context.id {
        span.set(names::REQUEST_ID, &*id.to_text());
    }
    span
}

/// What a client did wrong is no error of the server.
fn leave(mut span: Span, response: &Response) {
    let status = response.status();
    span.set(names::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
    if status.is_server_error() {
        let problem = response.extensions().get::<Problem>();
        span.fail(problem.map_or("5xx", |problem| problem.code().as_str()));
    }
}
