//! Traces: spans of sampled requests, sent over OTLP.
//!
//! Whether a request is sampled is decided before anything is made. One that is not has no span, allocates
//! nothing and keeps its `traceparent` byte for byte. Spans are built here and not by way of `tracing`, whose
//! spans cost something whether anybody wants them or not.

mod client;
mod envelope;
mod export;
pub mod names;
mod span;
mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, Uri};
use opentelemetry::trace::{SpanId, TraceId};
use tokio::time::Instant;

use crate::config::{self, Trust};
use crate::telemetry::metrics::TraceCounters;
use crate::translate::headers::{forget_context, forget_trace, traceparent_in, traceparent_of};
use crate::translate::{ClientContext, trace_ids};
use export::Exporter;
pub use span::{Origin, Span, SpanKind};
pub use wire::Value;

/// Of the readers of one message, so many have a span each: a trace with thousands says no more.
const READERS_MAX: u32 = 16;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How long sending what waits may hold up the end.
const ENDING: Duration = Duration::from_secs(2);

/// Where spans are sent to, and how many.
#[derive(Debug)]
pub struct Sending {
    /// Where to: http or https, and a path.
    pub endpoint: Uri,
    /// What goes along with each batch, such as a token.
    pub headers: HeaderMap,
    /// Whether batches are sent as gzip.
    pub is_compressed: bool,
    /// How long one batch may take.
    pub timeout: Duration,
    /// The share that is traced where neither the caller nor the configuration says.
    pub sample: f64,
}

/// The spans of the process, on their way to the collector.
#[derive(Debug)]
pub struct Traces {
    task: export::Task,
    sample: f64,
}

impl Traces {
    /// Begins to send.
    #[must_use]
    pub fn start(sending: Sending, counters: TraceCounters) -> Self {
        Self {
            sample: sending.sample,
            task: export::Task::start(sending, counters),
        }
    }

    /// What decides for each request. Made anew with the routes, and so by a reload.
    #[must_use]
    pub fn tracer(&self, settings: &config::Traces) -> Tracer {
        Tracer {
            exporter: Some(self.task.exporter()),
            trust: settings.trust,
            sample: settings.sample.unwrap_or(self.sample),
        }
    }

    /// Sends what waits, for at most two seconds.
    pub async fn end(&mut self) {
        self.task.end(Instant::now() + ENDING).await;
    }
}

/// Decides which requests are traced.
#[derive(Clone, Debug)]
pub struct Tracer {
    /// None where nobody takes traces; then only what is not trusted is forgotten.
    exporter: Option<Exporter>,
    trust: Trust,
    sample: f64,
}

/// What becomes of a request's trace.
#[derive(Debug)]
pub enum Decision {
    /// It is not recorded; what the caller says goes on.
    Forward,
    /// It is not recorded, and what the caller says is not passed on, because it is not trusted.
    Forget,
    /// It is recorded.
    Record(Box<Origin>),
}

/// A span of somebody else, or one of ours that is known by its name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    trace: TraceId,
    span: SpanId,
    is_sampled: bool,
}

impl Remote {
    /// That of an HTTP caller.
    #[must_use]
    pub fn caller(headers: &HeaderMap) -> Option<Self> {
        Self::read(traceparent_of(headers)?)
    }

    /// That of whoever published a message.
    #[must_use]
    pub fn publisher(headers: Option<&async_nats::HeaderMap>) -> Option<Self> {
        Self::read(traceparent_in(headers?)?)
    }

    fn read(value: &str) -> Option<Self> {
        let (trace, span) = trace_ids(value)?;
        Some(Self {
            trace: TraceId::from_hex(trace).ok()?,
            span: SpanId::from_hex(span).ok()?,
            is_sampled: is_sampled(value)?,
        })
    }
}

fn is_sampled(traceparent: &str) -> Option<bool> {
    let flags = u8::from_str_radix(traceparent.get(53..55)?, 16).ok()?;
    Some(flags & 1 == 1)
}

/// Whether a caller has decided that nothing is recorded. Its ids need not be read for that, and most
/// requests are such.
fn is_declined(traceparent: &str) -> bool {
    trace_ids(traceparent).is_some() && is_sampled(traceparent) == Some(false)
}

/// What a received message says of its trace, read once for all who read the message.
#[derive(Debug)]
pub struct Carried {
    publisher: Option<Remote>,
    readers: AtomicU32,
}

impl Carried {
    /// Reads it.
    #[must_use]
    pub fn of(headers: Option<&async_nats::HeaderMap>) -> Self {
        Self {
            publisher: Remote::publisher(headers),
            readers: AtomicU32::new(0),
        }
    }
}

/// What becomes of a trace context that a client writes into a body or a frame.
#[must_use]
pub fn client_context(tracer: Option<&Tracer>) -> ClientContext {
    match tracer.map(|tracer| tracer.trust) {
        None | Some(Trust::Inherit) => ClientContext::Kept,
        Some(Trust::Link | Trust::Ignore) => ClientContext::Dropped,
    }
}

impl Tracer {
    /// One for when nobody takes traces: there is something to do only where callers are not trusted.
    #[must_use]
    pub fn without_collector(settings: &config::Traces) -> Option<Self> {
        (settings.trust != Trust::Inherit).then_some(Self {
            exporter: None,
            trust: settings.trust,
            sample: 0.0,
        })
    }

    /// Decides, and allocates nothing unless the request is recorded.
    #[must_use]
    pub fn decide(&self, headers: &HeaderMap) -> Decision {
        let Some(exporter) = &self.exporter else {
            return Decision::Forget;
        };
        let is_trusted = self.trust == Trust::Inherit;
        if is_trusted && traceparent_of(headers).is_some_and(is_declined) {
            return Decision::Forward;
        }
        match (self.trust, Remote::caller(headers)) {
            (Trust::Inherit, Some(caller)) => {
                let origin = origin(exporter, caller.trace, caller.span, None);
                Decision::Record(Box::new(origin))
            }
            (_, caller) if self.is_chosen() => {
                root(exporter, caller.filter(|_| self.trust == Trust::Link))
            }
            (Trust::Inherit, None) => Decision::Forward,
            (Trust::Link | Trust::Ignore, _) => Decision::Forget,
        }
    }

    /// What the opening of a connection is called in the links of what is done over it: its own span, else
    /// its caller's.
    #[must_use]
    pub fn opening(&self, request: &http::Request<impl Sized>) -> Option<Remote> {
        match request.extensions().get::<Origin>() {
            Some(own) => Some(Remote {
                trace: own.trace,
                span: own.parent,
                is_sampled: true,
            }),
            None if self.trust == Trust::Ignore => None,
            None => Remote::caller(request.headers()),
        }
    }

    /// Where the span of a message belongs that came in a frame: below its own parent, where clients are
    /// trusted, else to a new trace that is linked to the connection's opening.
    #[must_use]
    pub fn of_frame(&self, parent: Option<Remote>, opening: Option<Remote>) -> Option<Origin> {
        let exporter = self.exporter.as_ref()?;
        match parent.filter(|_| self.trust == Trust::Inherit) {
            Some(parent) => parent
                .is_sampled
                .then(|| origin(exporter, parent.trace, parent.span, None)),
            None => self.is_chosen().then(|| root_of(exporter, opening)),
        }
    }

    /// Where the span belongs that hands a message to a reader. Only what its publisher sampled has one.
    #[must_use]
    pub fn of_delivery(&self, carried: &Carried) -> Option<Origin> {
        let exporter = self.exporter.as_ref()?;
        let publisher = carried.publisher.filter(|publisher| publisher.is_sampled)?;
        let origin = match self.trust {
            Trust::Inherit => origin(exporter, publisher.trace, publisher.span, None),
            Trust::Link if self.is_chosen() => root_of(exporter, Some(publisher)),
            Trust::Link | Trust::Ignore => return None,
        };
        if carried.readers.load(Ordering::Relaxed) >= READERS_MAX {
            exporter.skip();
            return None;
        }
        carried.readers.fetch_add(1, Ordering::Relaxed);
        Some(origin)
    }

    fn is_chosen(&self) -> bool {
        rand::random::<f64>() < self.sample
    }

    /// Takes away what is not passed on when a new trace begins or the caller is not trusted. Of a trusted
    /// caller without a trace, `baggage` goes on: it is about the request.
    pub fn forget_caller(&self, headers: &mut HeaderMap) {
        match self.trust {
            Trust::Inherit => forget_trace(headers),
            Trust::Link | Trust::Ignore => forget_context(headers),
        }
    }
}

fn root(exporter: &Exporter, linked: Option<Remote>) -> Decision {
    Decision::Record(Box::new(root_of(exporter, linked)))
}

fn root_of(exporter: &Exporter, linked: Option<Remote>) -> Origin {
    let trace = TraceId::from_bytes(rand::random::<[u8; 16]>());
    origin(exporter, trace, SpanId::INVALID, linked)
}

fn origin(exporter: &Exporter, trace: TraceId, parent: SpanId, linked: Option<Remote>) -> Origin {
    Origin {
        trace,
        parent,
        is_remote: parent != SpanId::INVALID,
        link: linked,
        exporter: exporter.clone(),
    }
}

impl Origin {
    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// Whether a caller's trace goes on.
    #[must_use]
    pub fn continues(&self) -> bool {
        self.parent != SpanId::INVALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(flags: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = format!("00-{TRACE}-{SPAN}-{flags}");
        headers.insert(TRACEPARENT, value.parse().unwrap());
        headers
    }

    fn decide(trust: Trust, sample: f64, headers: &HeaderMap) -> Decision {
        let settings = config::Traces {
            sample: Some(sample),
            trust,
            ..config::Traces::default()
        };
        let sending = Sending {
            endpoint: Uri::from_static("http://127.0.0.1:1/v1/traces"),
            headers: HeaderMap::new(),
            is_compressed: false,
            timeout: Duration::from_secs(1),
            sample: 0.0,
        };
        let traces = Traces::start(sending, Metrics::new().traces());
        traces.tracer(&settings).decide(headers)
    }

    #[tokio::test]
    async fn a_trusted_caller_decides() {
        let Decision::Record(origin) = decide(Trust::Inherit, 0.0, &headers("01")) else {
            panic!("it is sampled");
        };
        assert_eq!(origin.trace.to_string(), TRACE);
        assert_eq!(origin.parent.to_string(), SPAN);
        assert!(origin.continues() && origin.link.is_none());
        let unsampled = decide(Trust::Inherit, 1.0, &headers("00"));
        assert!(matches!(unsampled, Decision::Forward));
    }

    #[tokio::test]
    async fn without_a_caller_the_share_decides() {
        let none = HeaderMap::new();
        for trust in [Trust::Inherit, Trust::Link, Trust::Ignore] {
            let Decision::Record(origin) = decide(trust, 1.0, &none) else {
                panic!("all are sampled");
            };
            assert!(!origin.continues() && origin.link.is_none());
        }
        assert!(matches!(
            decide(Trust::Inherit, 0.0, &none),
            Decision::Forward
        ));
    }

    #[tokio::test]
    async fn a_caller_who_is_not_trusted_decides_nothing() {
        for flags in ["00", "01"] {
            let Decision::Record(origin) = decide(Trust::Link, 1.0, &headers(flags)) else {
                panic!("all are sampled");
            };
            assert_ne!(origin.trace.to_string(), TRACE);
            let link = origin.link.unwrap();
            assert_eq!(link.trace.to_string(), TRACE);
            assert_eq!(link.span.to_string(), SPAN);
            let Decision::Record(origin) = decide(Trust::Ignore, 1.0, &headers(flags)) else {
                panic!("all are sampled");
            };
            assert!(origin.link.is_none() && origin.trace.to_string() != TRACE);
            for trust in [Trust::Link, Trust::Ignore] {
                assert!(matches!(
                    decide(trust, 0.0, &headers(flags)),
                    Decision::Forget
                ));
            }
        }
    }

    #[tokio::test]
    async fn a_damaged_or_doubled_caller_is_none() {
        let mut doubled = headers("01");
        doubled.append(TRACEPARENT, doubled[TRACEPARENT].clone());
        let mut damaged = HeaderMap::new();
        damaged.insert(TRACEPARENT, "00-zz".parse().unwrap());
        for headers in [doubled, damaged] {
            assert!(matches!(
                decide(Trust::Inherit, 0.0, &headers),
                Decision::Forward
            ));
        }
    }
}
