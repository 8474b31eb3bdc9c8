//! A span: what is recorded of a sampled request. There is none of an unsampled one.

use std::borrow::Cow;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::export::Exporter;
use super::{Remote, names};

/// What OpenTelemetry allows by default.
const LINKS_MAX: usize = 128;

/// Where a span belongs.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(super) trace: TraceId,
    pub(super) parent: SpanId,
    pub(super) is_remote: bool,
    pub(super) link: Option<SpanContext>,
    pub(super) exporter: Exporter,
}

/// A span that goes on. It ends, and is sent, when it is dropped.
#[derive(Debug)]
pub struct Span {
    data: Option<Box<SpanData>>,
    exporter: Exporter,
}

impl Span {
    /// Begins one.
    pub fn begin(origin: Origin, kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Self {
        let own = SpanId::from_bytes(rand::random::<[u8; 8]>());
        let now = SystemTime::now();
        let mut links = SpanLinks::default();
        links.links.extend(origin.link.map(Link::with_context));
        let data = SpanData {
            span_context: sampled(origin.trace, own, false),
            parent_span_id: origin.parent,
            parent_span_is_remote: origin.is_remote,
            span_kind: kind,
            name: name.into(),
            start_time: now,
            end_time: now,
            attributes: Vec::with_capacity(8),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: scope(),
        };
        Self {
            data: Some(Box::new(data)),
            exporter: origin.exporter,
        }
    }

    /// Where a span below this one belongs.
    #[must_use]
    pub fn below(&self) -> Option<Origin> {
        let context = &self.data.as_ref()?.span_context;
        Some(Origin {
            trace: context.trace_id(),
            parent: context.span_id(),
            is_remote: false,
            link: None,
            exporter: self.exporter.clone(),
        })
    }

    /// Makes this span what the headers say is the caller.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        let Some(text) = self.traceparent() else {
            return;
        };
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(super::TRACEPARENT, value);
        }
    }

    /// Makes this span what a message's headers say is its publisher.
    pub fn write_to_message(&self, headers: &mut Option<async_nats::HeaderMap>) {
        let Some(text) = self.traceparent() else {
            return;
        };
        let headers = headers.get_or_insert_default();
        headers.insert("traceparent", text.as_str());
    }

    fn traceparent(&self) -> Option<String> {
        let context = &self.data.as_ref()?.span_context;
        let (trace, span) = (context.trace_id(), context.span_id());
        Some(format!("00-{trace}-{span}-01"))
    }

    /// Says that it has to do with another span.
    pub fn link(&mut self, to: Remote) {
        let Some(data) = &mut self.data else { return };
        match data.links.links.len() < LINKS_MAX {
            true => data.links.links.push(Link::with_context(to.context())),
            false => data.links.dropped_count += 1,
        }
    }

    /// Says something about what is done. The name is one of [`names`].
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(data) = &mut self.data {
            data.attributes.push(KeyValue::new(name, value));
        }
    }

    /// Says that it failed, and how, by a word of ours.
    pub fn fail(&mut self, why: &'static str) {
        self.set(names::ERROR_TYPE, why);
        if let Some(data) = &mut self.data {
            data.status = Status::error("");
        }
    }

    /// Ends it without a trace of it.
    pub fn discard(mut self) {
        self.data = None;
    }

    /// Begins now and not when it was made.
    pub fn restart(&mut self) {
        if let Some(data) = &mut self.data {
            data.start_time = SystemTime::now();
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            data.end_time = SystemTime::now();
            self.exporter.push(*data);
        }
    }
}

pub(super) fn sampled(trace: TraceId, span: SpanId, is_remote: bool) -> SpanContext {
    let none = TraceState::default();
    SpanContext::new(trace, span, TraceFlags::SAMPLED, is_remote, none)
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(names::SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(names::SCHEMA_URL)
        .build()
}
