//! A span: what is recorded of a sampled request. There is none of an unsampled one.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};

use super::export::Exporter;
use super::wire::{self, Value};
use super::{Remote, names};
use crate::translate::sampled_traceparent;

/// What OpenTelemetry allows by default.
const LINKS_MAX: u32 = 128;
/// Most spans fit.
const BYTES: usize = 512;

/// `Span.flags`: it is known whether the parent is another process's, and whether it is.
const IS_REMOTE_KNOWN: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// What a span is about, by OTLP's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that natsway answers.
    Server = 2,
    /// A request that natsway makes.
    Client = 3,
    /// A message that natsway sends.
    Producer = 4,
    /// A message that natsway hands on.
    Consumer = 5,
}

/// Where a span belongs.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(super) trace: TraceId,
    pub(super) parent: SpanId,
    pub(super) is_remote: bool,
    pub(super) link: Option<Remote>,
    pub(super) exporter: Exporter,
}

/// A span that goes on. It ends, and is sent, when it is dropped.
#[derive(Debug)]
pub struct Span {
    trace: TraceId,
    own: SpanId,
    start: SystemTime,
    /// What is known of it, as a `Span` of OTLP. Nothing where there was no room for it from the beginning:
    /// a request must not pay for a collector that is slow or dead.
    known: Option<Vec<u8>>,
    links: u32,
    is_discarded: bool,
    exporter: Exporter,
}

impl Span {
    /// Begins one. The name is put together from its parts.
    #[must_use]
    pub fn begin(origin: Origin, kind: SpanKind, name: &[&str]) -> Self {
        let mut span = Self {
            trace: origin.trace,
            own: SpanId::from_bytes(rand::random::<[u8; 8]>()),
            start: SystemTime::now(),
            known: None,
            links: 0,
            is_discarded: false,
            exporter: origin.exporter,
        };
        if span.exporter.has_room() {
            let mut known = Vec::with_capacity(BYTES);
            wire::bytes(&mut known, 1, &span.trace.to_bytes());
            wire::bytes(&mut known, 2, &span.own.to_bytes());
            if origin.parent != SpanId::INVALID {
                wire::bytes(&mut known, 4, &origin.parent.to_bytes());
            }
            wire::head(&mut known, 5, name.iter().map(|part| part.len()).sum());
            for part in name {
                known.extend_from_slice(part.as_bytes());
            }
            wire::number(&mut known, 6, kind as u64);
            let remote = if origin.is_remote { IS_REMOTE } else { 0 };
            wire::fixed32(&mut known, 16, 1 | IS_REMOTE_KNOWN | remote);
            span.known = Some(known);
        }
        if let Some(link) = origin.link {
            span.link(link);
        }
        span
    }

    /// Where a span below this one belongs.
    #[must_use]
    pub fn below(&self) -> Origin {
        Origin {
            trace: self.trace,
            parent: self.own,
            is_remote: false,
            link: None,
            exporter: self.exporter.clone(),
        }
    }

    /// Makes this span what the headers say is the caller.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.traceparent()) {
            headers.insert(super::TRACEPARENT, value);
        }
    }

    /// Makes this span what a message's headers say is its publisher.
    pub fn write_to_message(&self, headers: &mut Option<async_nats::HeaderMap>) {
        let text = self.traceparent();
        let text = std::str::from_utf8(&text).expect("it is made of hexadecimal digits");
        headers.get_or_insert_default().insert("traceparent", text);
    }

    fn traceparent(&self) -> [u8; 55] {
        sampled_traceparent(self.trace.to_bytes(), self.own.to_bytes())
    }

    /// Says that it has to do with another span.
    pub fn link(&mut self, to: Remote) {
        let Some(known) = &mut self.known else { return };
        self.links += 1;
        if self.links > LINKS_MAX {
            return;
        }
        const LENGTH: usize = wire::bytes_length(16) + wire::bytes_length(8) + 5;
        wire::head(known, 13, LENGTH);
        wire::bytes(known, 1, &to.trace.to_bytes());
        wire::bytes(known, 2, &to.span.to_bytes());
        let flags = u32::from(to.is_sampled) | IS_REMOTE_KNOWN | IS_REMOTE;
        wire::fixed32(known, 6, flags);
    }

    /// Says something about what is done. The name is one of [`names`].
    pub fn set<'a>(&mut self, name: &'static str, value: impl Into<Value<'a>>) {
        if let Some(known) = &mut self.known {
            wire::attribute(known, 9, name, value.into());
        }
    }

    /// Says that it failed, and how, by a word of ours.
    pub fn fail(&mut self, why: &'static str) {
        self.set(names::ERROR_TYPE, why);
        if let Some(known) = &mut self.known {
            // `Status`, with the code of an error.
            wire::bytes(known, 15, &[0x18, 2]);
        }
    }

    /// Ends it without a trace of it.
    pub fn discard(mut self) {
        self.is_discarded = true;
    }

    /// Begins now and not when it was made.
    pub fn restart(&mut self) {
        self.start = SystemTime::now();
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.is_discarded {
            return;
        }
        let Some(known) = &mut self.known else {
            return self.exporter.miss();
        };
        wire::fixed64(known, 7, nanoseconds(self.start));
        wire::fixed64(known, 8, nanoseconds(SystemTime::now()));
        if self.links > LINKS_MAX {
            wire::number(known, 14, u64::from(self.links - LINKS_MAX));
        }
        self.exporter.push(known);
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
