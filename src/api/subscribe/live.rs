//! The messages of one stream, from one subject or several.

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::spec::Spec;
use crate::api::deliveries::Deliveries;
use crate::api::notice::{EndReason, Gap, Notice};
use crate::api::session::Session;
use crate::api::stream_body::{Feed, Item};
use crate::api::{ndjson, sse};
use crate::config::OnSlow;
use crate::nats::{Delivery, Event, GapReason, Reader};
use crate::translate::envelope::Encoding;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An event with an envelope.
    Sse(Encoding),
    /// An event with the payload.
    SseRaw,
    /// An envelope with the end of its line.
    Line(Encoding),
    /// An envelope.
    Object(Encoding),
    /// The payload, byte for byte.
    Payload,
}

impl Shape {
    /// Encodes a message.
    pub(in crate::api) fn encode(self, delivery: &Delivery) -> Bytes {
        match self {
            Self::Sse(encoding) => sse::envelope(delivery, encoding),
            Self::SseRaw => sse::raw(delivery),
            Self::Line(encoding) => ndjson::line(delivery, encoding),
            Self::Object(encoding) => ndjson::object(delivery, encoding),
            Self::Payload => delivery.message.payload.clone(),
        }
    }

    /// Whether it goes into server-sent events.
    pub(in crate::api) const fn is_sse(self) -> bool {
        matches!(self, Self::Sse(_) | Self::SseRaw)
    }
}

#[derive(Debug)]
struct Source {
    reader: Reader,
    /// A subject that begins with a wildcard also matches what this route may not show.
    is_filtered: bool,
}

/// The feed of a core subscription. Sources take turns, so a busy subject cannot silence another, and
/// within one the order holds.
#[derive(Debug)]
pub struct Live {
    sources: Box<[Source]>,
    turn: usize,
    session: Session,
    shape: Shape,
    on_slow: OnSlow,
    left: Option<u64>,
    returns: bool,
    deliveries: Deliveries,
}

impl Live {
    pub(super) fn new(
        readers: Vec<Reader>,
        spec: &Spec,
        shape: Shape,
        session: &Session,
        deliveries: Deliveries,
    ) -> Self {
        let sources = readers.into_iter().zip(&spec.subjects);
        Self {
            sources: sources
                .map(|(reader, subject)| Source {
                    reader,
                    is_filtered: subject.is_root_wildcard(),
                })
                .collect(),
            turn: 0,
            session: session.clone(),
            shape,
            on_slow: spec.on_slow,
            left: spec.view.max,
            returns: spec.returns,
            deliveries,
        }
    }

    /// The next event of the source whose turn it is, or of the first after it that has one.
    fn poll_sources(&mut self, cx: &mut Context<'_>) -> Poll<(Event, bool)> {
        for _ in 0..self.sources.len() {
            self.turn = (self.turn + 1) % self.sources.len();
            let source = &mut self.sources[self.turn];
            if let Poll::Ready(event) = source.reader.poll_next(cx) {
                return Poll::Ready((event, source.is_filtered));
            }
        }
        Poll::Pending
    }

    fn item(&mut self, event: Event, is_filtered: bool) -> Option<Item> {
        let notice = match event {
            Event::Message(delivery) => {
                if is_filtered && !self.session.delivers(&delivery.message.subject) {
                    return None;
                }
                if let Some(left) = &mut self.left {
                    *left -= 1;
                }
                self.deliveries.begin(&delivery);
                return Some(Item::Message(self.shape.encode(&delivery)));
            }
            Event::PermissionDenied => Notice::End(EndReason::PermissionDenied),
            Event::Gap {
                reason: GapReason::SlowClient,
                ..
            } if self.on_slow == OnSlow::End => Notice::End(EndReason::SlowClient),
            Event::Gap { dropped, reason } => Notice::Gap(Gap {
                dropped,
                reason: reason.as_str(),
                range: None,
            }),
        };
        Some(Item::Notice(notice))
    }
}

impl Feed for Live {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if std::mem::take(&mut self.returns) {
            self.session.nats().hub().stats().count_gap();
            let gap = Gap::unknown("client-reconnected");
            return Poll::Ready(Item::Notice(Notice::Gap(gap)));
        }
        if self.left == Some(0) {
            return Poll::Ready(Item::Notice(Notice::End(EndReason::Max)));
        }
        loop {
            let (event, is_filtered) = std::task::ready!(self.poll_sources(cx));
            if let Some(item) = self.item(event, is_filtered) {
                return Poll::Ready(item);
            }
        }
    }

    fn written(&mut self, all: bool, now: Instant) {
        self.deliveries.written(all, now);
    }

    fn taken(&mut self) {
        self.deliveries.taken();
    }

    fn write_first(&mut self, out: &mut Vec<u8>) {
        if self.shape.is_sse() {
            sse::write_first(out);
        }
    }
}
