//! What is known of the messages on their way to one reader: how late they are, and the spans of those that
//! somebody traces.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::sending::messaging;
use crate::nats::Delivery;
use crate::telemetry::metrics::StreamLag;
use crate::telemetry::traces::{Span, SpanKind, Tracer, names};

/// The messages of one reader.
#[derive(Debug)]
pub struct Deliveries {
    tracer: Option<Tracer>,
    lag: StreamLag,
    /// Those not yet written.
    oldest: Option<Since>,
    latest: Option<Since>,
    spans: Vec<Span>,
}

/// Since when a message is on its way: a stream says when it was stored, else it is when it came.
#[derive(Clone, Copy, Debug)]
enum Since {
    Stored(OffsetDateTime),
    Arrived(std::time::Instant),
}

impl Since {
    fn of(delivery: &Delivery) -> Self {
        let stored = delivery.stored.as_ref();
        stored.map_or(Self::Arrived(delivery.arrived), |stored| {
            Self::Stored(stored.time)
        })
    }

    fn is_before(self, other: Self) -> bool {
        match (self, other) {
            (Self::Arrived(one), Self::Arrived(other)) => one < other,
            (Self::Stored(one), Self::Stored(other)) => one < other,
            _ => false,
        }
    }

    /// The server's clock may be ahead of ours.
    fn age(self, now: Instant) -> Duration {
        match self {
            Self::Stored(at) => (OffsetDateTime::now_utc() - at)
                .try_into()
                .unwrap_or_default(),
            Self::Arrived(at) => now.into_std().saturating_duration_since(at),
        }
    }
}

impl Deliveries {
    /// None so far.
    #[must_use]
    pub const fn new(tracer: Option<Tracer>, lag: StreamLag) -> Self {
        Self {
            tracer,
            lag,
            oldest: None,
            latest: None,
            spans: Vec::new(),
        }
    }

    /// A message is about to be encoded.
    pub fn begin(&mut self, delivery: &Delivery) {
        let since = Since::of(delivery);
        self.latest = Some(since);
        if self.oldest.is_none_or(|oldest| since.is_before(oldest)) {
            self.oldest = Some(since);
        }
        if let Some(tracer) = &self.tracer
            && let Some(origin) = tracer.of_delivery(delivery.carried())
        {
            let span = messaging(origin, SpanKind::Consumer, names::STREAM, names::PROCESS);
            self.spans.push(described(span, delivery));
        }
    }

    /// What was encoded is written now; all of it, or all but the last, which comes with the next write.
    pub fn written(&mut self, all: bool, now: Instant) {
        if let Some(oldest) = self.oldest.take() {
            self.lag.observe(oldest.age(now));
        }
        if !all {
            self.oldest = self.latest;
        }
    }

    /// What was written was taken.
    pub fn taken(&mut self) {
        self.spans.clear();
    }
}

fn described(mut span: Span, delivery: &Delivery) -> Span {
    let subject = delivery.message.subject.as_str();
    span.set(names::MESSAGING_DESTINATION_NAME, subject);
    if let Some(stored) = &delivery.stored {
        let id = format!("{}:{}", stored.stream, stored.position.seq);
        span.set(names::MESSAGING_MESSAGE_ID, &*id);
        span.set(names::NATS_STREAM, &*stored.stream);
    }
    span
}
