//! Counts and, where asked for, logs every request: rate, errors and duration by route. Just inside the
//! request id, so that it sees every answer as the client will, shed ones and panics included; a request
//! whose client goes away before there is an answer is counted as 499.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use opentelemetry::trace::TraceId;
use tokio::time::Instant;
use tower::Layer;

use super::held::until_end;
use super::peer::Peer;
use super::request_id::RequestId;
use super::{Handle, Request};
use crate::config::AccessLog;
use crate::problem::{Code, Problem, Source};
use crate::telemetry::logs::ACCESS;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::traces::Origin;
use crate::translate::trace_ids;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a log line says of a route.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name, the `route` label.
    pub route: Arc<str>,
    /// Its path with captures. The path itself may hold a subject, or an ack token.
    pub path: Arc<str>,
    /// Its method.
    pub method: http::Method,
}

/// The layer.
pub fn layer<N: Handle>(
    named: Named,
    metrics: Arc<RouteMetrics>,
    log: AccessLog,
) -> impl Layer<N, Service = Recorded<N>> {
    let recorder = Arc::new(Recorder {
        named,
        metrics,
        log,
    });
    tower::layer::layer_fn(move |next| Recorded {
        next,
        recorder: Arc::clone(&recorder),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct Recorded<N> {
    next: N,
    recorder: Arc<Recorder>,
}

#[derive(Debug)]
struct Recorder {
    named: Named,
    metrics: Arc<RouteMetrics>,
    log: AccessLog,
}

impl<N: Handle> Handle for Recorded<N> {
    async fn handle(&self, mut request: Box<Request>) -> Response {
        let mut flight = Flight::begin(&self.recorder, &request);
        request.context.began = Some(flight.started);
        let response = self.next.handle(request).await;
        flight.answered(&response);
        match flight.line.take() {
            // It is written when the answer has ended, with the time it took.
            Some(line) => until_end(response, line),
            None => response,
        }
    }
}

/// Counts and, where asked for, logs problems that are no answers of their own, such as those in a
/// WebSocket's frames.
#[derive(Clone, Debug)]
pub struct Frames(Arc<Recorder>);

impl Frames {
    /// Of one route.
    #[must_use]
    pub fn new(named: Named, metrics: Arc<RouteMetrics>, log: AccessLog) -> Self {
        Self(Arc::new(Recorder {
            named,
            metrics,
            log,
        }))
    }

    /// One problem, told to the client whose request `id` is.
    pub fn problem(&self, problem: &Problem, id: Option<&RequestId>, peer: Option<&Peer>) {
        let Recorder {
            named,
            metrics,
            log,
        } = &*self.0;
        let (code, source) = (problem.code(), problem.failed_by());
        inc(metrics, code, source);
        if *log == AccessLog::Off {
            return;
        }
        tracing::info!(
            target: ACCESS,
            request_id = id.map(RequestId::to_text).as_deref(),
            route = &*named.route,
            method = named.method.as_str(),
            path = &*named.path,
            status = problem.http_status().as_u16(),
            problem = code.as_str(),
            source = source.as_str(),
            client = peer.and_then(Peer::ip).map(tracing::field::display),
            "answered in a frame"
        );
    }
}

fn inc(metrics: &RouteMetrics, code: Code, source: Source) {
    let slot = code as usize * 4 + source as usize;
    metrics.problem(slot, code.as_str(), source.as_str());
}

/// A request in flight. Dropped unanswered when its client went away.
struct Flight<'a> {
    recorder: &'a Recorder,
    started: Instant,
    is_answered: bool,
    /// The trace, where the request is traced. As bytes, which need no alignment.
    trace: Option<[u8; 16]>,
    /// Boxed, so that who logs nothing needs no room for it.
    line: Option<Box<Line>>,
}

#[derive(Clone, Copy)]
struct Answered {
    status: StatusCode,
    problem: Option<(Code, Source)>,
}

/// A log line. It is written when it is dropped.
struct Line {
    recorder: Arc<Recorder>,
    started: Instant,
    id: Option<RequestId>,
    peer: Option<Arc<Peer>>,
    traceparent: Option<HeaderValue>,
    answered: Option<Answered>,
}

impl<'a> Flight<'a> {
    fn begin(recorder: &'a Arc<Recorder>, request: &Request) -> Self {
        recorder.metrics.in_flight.inc();
        let started = request.context.began.unwrap_or_else(Instant::now);
        let is_logged = recorder.log != AccessLog::Off;
        Self {
            recorder,
            started,
            is_answered: false,
            trace: request.extensions().get().map(trace_of),
            line: is_logged.then(|| Box::new(Line::begin(Arc::clone(recorder), request, started))),
        }
    }

    fn answered(&mut self, response: &Response) {
        let problem = response.extensions().get::<Problem>();
        self.record(Answered {
            status: response.status(),
            problem: problem.map(|problem| (problem.code(), problem.failed_by())),
        });
    }

    fn record(&mut self, answered: Answered) {
        let metrics = &self.recorder.metrics;
        metrics.in_flight.dec();
        let took = self.started.elapsed();
        let trace = self.trace.map(TraceId::from_bytes);
        metrics.answered(answered.status.as_u16(), took, trace);
        if let Some((code, source)) = answered.problem {
            inc(metrics, code, source);
        }
        if let Some(line) = &mut self.line {
            line.answered = Some(answered);
        }
        self.is_answered = true;
    }
}

fn trace_of(origin: &Origin) -> [u8; 16] {
    origin.trace_id().to_bytes()
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.record(Answered {
                status: Code::ClientClosed.entry().status,
                problem: Some((Code::ClientClosed, Source::Client)),
            });
        }
    }
}

impl Line {
    fn begin(recorder: Arc<Recorder>, request: &Request, started: Instant) -> Self {
        let context = &request.context;
        Self {
            recorder,
            started,
            id: context.id.clone(),
            peer: context.peer.clone(),
            traceparent: request.headers().get(&TRACEPARENT).cloned(),
            answered: None,
        }
    }

    fn trace_ids(&self) -> Option<(&str, &str)> {
        trace_ids(self.traceparent.as_ref()?.to_str().ok()?)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(answered) = self.answered
            && (self.recorder.log == AccessLog::All || answered.status.as_u16() >= 400)
        {
            write(self, answered);
        }
    }
}

fn write(line: &Line, answered: Answered) {
    let (peer, trace) = (line.peer.as_deref(), line.trace_ids());
    let named = &line.recorder.named;
    tracing::info!(
        target: ACCESS,
        trace_id = trace.map(|(trace, _)| trace),
        span_id = trace.map(|(_, span)| span),
        request_id = line.id.as_ref().map(RequestId::to_text).as_deref(),
        route = &*named.route,
        method = named.method.as_str(),
        path = &*named.path,
        status = answered.status.as_u16(),
        problem = answered.problem.map(|(code, _)| code.as_str()),
        source = answered.problem.map(|(_, source)| source.as_str()),
        client = peer.and_then(Peer::ip).map(tracing::field::display),
        duration_ms = line.started.elapsed().as_secs_f64() * 1000.0,
        "answered"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Verb;
    use crate::telemetry::metrics::Metrics;
    use axum::body::Body;
    use axum::response::IntoResponse as _;

    fn recorded(metrics: &Metrics, verb: Verb) -> Recorded<Verb> {
        let named = Named {
            route: "r".into(),
            path: "/r".into(),
            method: http::Method::GET,
        };
        let handles = Arc::new(metrics.route("r", "GET"));
        layer(named, handles, AccessLog::Off).layer(verb)
    }

    #[tokio::test]
    async fn answers_and_problems_are_counted() {
        let metrics = Metrics::new();
        let failing =
            Verb::of_fn(|_| Box::pin(async { Problem::new(Code::NoResponders).into_response() }));
        recorded(&metrics, failing)
            .handle(http::Request::new(Body::empty()).into())
            .await;
        let text = metrics.text();
        let problem = "natsway_http_problems_total{route=\"r\",code=\"no-responders\",source=\"responder\"} 1";
        assert!(text.contains(problem), "{text}");
        let seconds = "natsway_http_request_duration_seconds_count{route=\"r\",method=\"GET\",status=\"5xx\"} 1";
        assert!(text.contains(seconds), "{text}");
        assert!(
            text.contains("natsway_http_requests_in_flight{route=\"r\"} 0"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_counted_as_499() {
        let metrics = Metrics::new();
        let stack = recorded(&metrics, Verb::of_fn(|_| Box::pin(std::future::pending())));
        {
            let answer = stack.handle(http::Request::new(Body::empty()).into());
            tokio::pin!(answer);
            assert!(futures_util::poll!(answer.as_mut()).is_pending());
            assert!(
                metrics
                    .text()
                    .contains("natsway_http_requests_in_flight{route=\"r\"} 1")
            );
        }
        let text = metrics.text();
        assert!(
            text.contains("code=\"client-closed\",source=\"client\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("natsway_http_requests_in_flight{route=\"r\"} 0"),
            "{text}"
        );
    }

    #[test]
    fn every_pair_of_code_and_source_has_its_slot() {
        assert!(Code::ALL.len() * 4 <= 256);
    }
}
