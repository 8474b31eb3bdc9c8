//! The spans of fetching and of settling what was fetched.

use crate::api::sending::messaging;
use crate::nats::Inbound;
use crate::problem::Problem;
use crate::subject::Name;
use crate::telemetry::traces::{Origin, Remote, Span, SpanKind, names};
use crate::translate::ack_token::Ack;

/// The span of a fetch, from the pull until its messages are there or nobody wants them any more. What they
/// were published by is linked: a fetch has its caller's trace, and each message one of its own.
#[derive(Debug)]
pub(super) struct Receiving(Option<(Span, i64)>);

impl Receiving {
    /// Begins it, where the request is traced.
    pub(super) fn begin(origin: Option<Origin>, stream: &Name, consumer: &Name) -> Self {
        Self(origin.map(|origin| {
            let mut span = messaging(origin, SpanKind::Client, names::FETCH, names::RECEIVE);
            name(&mut span, stream.as_str(), consumer.as_str());
            (span, 0)
        }))
    }

    /// A message has come.
    pub(super) fn message(&mut self, message: &Inbound) {
        let Some((span, count)) = &mut self.0 else {
            return;
        };
        *count += 1;
        if let Some(publisher) = Remote::publisher(message.headers.as_ref()) {
            span.link(publisher);
        }
    }

    /// There will be no message, and why.
    pub(super) fn fail(&mut self, problem: &Problem) {
        if let Some((span, _)) = &mut self.0 {
            span.fail(problem.code().as_str());
        }
    }

    /// All messages are there.
    pub(super) fn end(&mut self) {
        if let Some((mut span, count)) = self.0.take() {
            span.set(names::MESSAGING_BATCH_MESSAGE_COUNT, count);
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.end();
    }
}

fn name(span: &mut Span, stream: &str, consumer: &str) {
    span.set(names::MESSAGING_DESTINATION_NAME, stream);
    span.set(names::MESSAGING_CONSUMER_GROUP_NAME, consumer);
    span.set(names::NATS_STREAM, stream);
    span.set(names::NATS_CONSUMER, consumer);
}

/// The span of what is said about one message, or about several at once.
#[derive(Debug)]
pub(super) struct SettleSpan(Option<Span>);

impl SettleSpan {
    /// About one message. The token, which is good for another use, is not told.
    pub(super) fn one(origin: Option<Origin>, kind: &'static str, ack: &Ack) -> Self {
        Self(origin.map(|origin| {
            let mut span = messaging(origin, SpanKind::Client, kind, names::SETTLE);
            name(&mut span, &ack.stream, &ack.consumer);
            let id = format!("{}:{}", ack.stream, ack.seq);
            span.set(names::MESSAGING_MESSAGE_ID, &*id);
            let delivered = i64::try_from(ack.delivered).unwrap_or(i64::MAX);
            span.set(names::NATS_DELIVERED, delivered);
            span
        }))
    }

    /// About several.
    pub(super) fn many(origin: Option<Origin>, count: usize) -> Self {
        Self(origin.map(|origin| {
            let mut span = messaging(origin, SpanKind::Client, names::SETTLE, names::SETTLE);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            span.set(names::MESSAGING_BATCH_MESSAGE_COUNT, count);
            span
        }))
    }

    /// What became of it.
    pub(super) fn end(mut self, settled: &Result<(), Problem>) {
        if let (Some(span), Err(problem)) = (&mut self.0, settled) {
            span.fail(problem.code().as_str());
        }
    }
}
