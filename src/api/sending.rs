//! The span of a message that is sent for a traced request. Its context goes along with the message, so
//! whoever receives it continues the trace below it.

use http::{Extensions, HeaderMap};

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
        let (kind, name) = match operation {
            Operation::Publish => (SpanKind::Producer, names::PUBLISH),
            Operation::Request => (SpanKind::Client, names::REQUEST),
        };
        // The subject is no part of the name: there is no end to subjects.
        let mut span = Span::begin(origin.clone(), kind, name);
        span.set(names::MESSAGING_SYSTEM, names::NATS);
        span.set(names::MESSAGING_OPERATION_NAME, name);
        span.set(names::MESSAGING_OPERATION_TYPE, names::SEND);
        span.set(
            names::MESSAGING_DESTINATION_NAME,
            subject.as_str().to_owned(),
        );
        span.write_to(headers);
        Self(Some(span))
    }

    /// Sends; the span begins and ends with it.
    pub(super) async fn run<T>(
        mut self,
        sending: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut span = self.0.take();
        if let Some(span) = &mut span {
            span.restart();
        }
        let sent = sending.await;
        if let (Some(span), Err(problem)) = (&mut span, &sent) {
            span.fail(problem.code().as_str());
        }
        sent
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
