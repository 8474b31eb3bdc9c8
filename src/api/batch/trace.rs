//! The span of a batch: one for all its messages, or a trace would hold as many spans as the body lines.

use http::{Extensions, HeaderMap};

use super::report::Report;
use crate::api::sending::messaging;
use crate::problem::Code;
use crate::subject::Subject;
use crate::telemetry::traces::{Origin, Remote, Span, SpanKind, names};

/// The span, where the request is traced. What was never begun has none.
#[derive(Debug, Default)]
pub(super) struct Trace {
    span: Option<Span>,
    is_begun: bool,
}

impl Trace {
    /// Begins it, and makes it the caller in the request's headers, which every message gets.
    pub(super) fn begin(extensions: &Extensions, headers: &mut HeaderMap) -> Self {
        let Some(origin) = extensions.get::<Origin>() else {
            return Self::default();
        };
        let span = messaging(
            origin.clone(),
            SpanKind::Producer,
            names::PUBLISH,
            names::SEND,
        );
        span.write_to(headers);
        Self {
            span: Some(span),
            is_begun: false,
        }
    }

    /// Lines are sent from here on, to this subject where they all have one.
    pub(super) fn sends_to(&mut self, subject: Option<&Subject>) {
        self.is_begun = true;
        if let (Some(span), Some(subject)) = (&mut self.span, subject) {
            span.set(names::MESSAGING_DESTINATION_NAME, subject.as_str());
        }
    }

    /// A line with a context of its own keeps it, and is linked.
    pub(super) fn line(&mut self, headers: Option<&async_nats::HeaderMap>) {
        if let Some(span) = &mut self.span
            && let Some(own) = Remote::publisher(headers)
        {
            span.link(own);
        }
    }

    /// Ends it.
    pub(super) fn end(&mut self, report: &Report) {
        let Some(mut span) = self.span.take() else {
            return;
        };
        let published = i64::try_from(report.lines_published()).unwrap_or(i64::MAX);
        span.set(names::MESSAGING_BATCH_MESSAGE_COUNT, published);
        if let Some(problem) = report.stopped_by() {
            span.fail(problem.code().as_str());
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        match self.span.take() {
            // Its client has gone, and nobody counted.
            Some(mut span) if self.is_begun => span.fail(Code::ClientClosed.as_str()),
            Some(span) => span.discard(),
            None => {}
        }
    }
}
