//! The span of a message that is sent for a traced request. Its context goes along with the message, so
//! whoever receives it continues the trace below it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Extensions, HeaderMap};
use pin_project_lite::pin_project;

use crate::problem::Problem;
use crate::subject::Subject;
use crate::telemetry::traces::{Origin, Span, SpanKind, names};

/// What is done with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// It is published.
    Publish,
    /// It is a request.
    Request,
}

impl Operation {
    fn span(self, origin: Origin, subject: &Subject) -> Span {
        let (kind, name) = match self {
            Self::Publish => (SpanKind::Producer, names::PUBLISH),
            Self::Request => (SpanKind::Client, names::REQUEST),
        };
        let mut span = messaging(origin, kind, name, names::SEND);
        span.set(names::MESSAGING_DESTINATION_NAME, subject.as_str());
        span
    }
}

/// A span of something done with messages. The subject is no part of its name: there is no end to subjects.
pub(super) fn messaging(
    origin: Origin,
    kind: SpanKind,
    name: &'static str,
    operation_type: &'static str,
) -> Span {
    let mut span = Span::begin(origin, kind, &[name]);
    span.set(names::MESSAGING_SYSTEM, names::NATS);
    span.set(names::MESSAGING_OPERATION_NAME, name);
    span.set(names::MESSAGING_OPERATION_TYPE, operation_type);
    span
}

/// The span, where the request is traced.
#[derive(Debug)]
pub(super) struct Sending(Option<Span>);

impl Sending {
    /// Makes the message's span the caller in the headers that are translated next.
    pub(super) fn prepare(
        operation: Operation,
        subject: &Subject,
        extensions: &Extensions,
        headers: &mut HeaderMap,
    ) -> Self {
        let Some(origin) = extensions.get::<Origin>() else {
            return Self(None);
        };
        let span = operation.span(origin.clone(), subject);
        span.write_to(headers);
        Self(Some(span))
    }

    /// The same for a message that came in a frame, with its headers translated.
    pub(super) fn of_frame(
        operation: Operation,
        subject: &Subject,
        origin: Option<Origin>,
        headers: &mut Option<async_nats::HeaderMap>,
    ) -> Self {
        let Some(origin) = origin else {
            return Self(None);
        };
        let span = operation.span(origin, subject);
        span.write_to_message(headers);
        Self(Some(span))
    }

    /// Sends; the span begins and ends with it.
    pub(super) fn run<F>(mut self, send: impl FnOnce() -> F) -> Run<F> {
        let mut span = self.0.take();
        if let Some(span) = &mut span {
            span.restart();
        }
        Run {
            sending: send(),
            span,
        }
    }
}

pin_project! {
    /// A message under way. A future by hand, since an `async fn` has room for its argument twice.
    pub(super) struct Run<F> {
        #[pin]
        sending: F,
        span: Option<Span>,
    }
}

impl<T, F: Future<Output = Result<T, Problem>>> Future for Run<F> {
    type Output = Result<T, Problem>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let sent = ready!(this.sending.poll(cx));
        if let (Some(mut span), Err(problem)) = (this.span.take(), &sent) {
            span.fail(problem.code().as_str());
        }
        Poll::Ready(sent)
    }
}

impl Drop for Sending {
    /// What was never sent has no span.
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            span.discard();
        }
    }
}
