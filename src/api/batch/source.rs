//! From a body in pieces to numbered messages.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::trace::Trace;
use crate::api::session::Session;
use crate::nats::Outbound;
use crate::problem::{Code, Problem};
use crate::subject::Subject;
use crate::translate::lines::{Line, Lines};
use crate::translate::{ClientContext, batch_line, headers};

/// A message, and where it is sent to.
#[derive(Debug)]
pub(super) struct Addressed {
    pub(super) subject: Subject,
    pub(super) message: Outbound,
}

/// One line that is not empty.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) line: u64,
    pub(super) message: Result<Addressed, Problem>,
}

/// The lines of a body.
#[derive(Debug)]
pub(super) struct Source {
    lines: Lines,
    line_bytes_max: usize,
    /// Where every line goes to; none: each line says it.
    subject: Option<Subject>,
    /// What every message has, unless its line says otherwise.
    headers: Option<HeaderMap>,
    /// What becomes of a line's trace context.
    context: ClientContext,
    pub(super) trace: Trace,
}

impl Source {
    pub(super) fn new(
        subject: Option<Subject>,
        headers: Option<HeaderMap>,
        line_bytes_max: usize,
        context: ClientContext,
    ) -> Self {
        Self {
            lines: Lines::new(line_bytes_max),
            line_bytes_max,
            subject,
            headers,
            context,
            trace: Trace::default(),
        }
    }

    /// The same, traced.
    pub(super) fn traced(mut self, mut trace: Trace) -> Self {
        trace.sends_to(self.subject.as_ref());
        self.trace = trace;
        self
    }

    /// Takes the next piece, after [`Self::next`] has given all it could.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.lines.push(piece);
    }

    /// The next message; `None` means that more of the body is needed.
    pub(super) fn next(&mut self, session: &Session) -> Option<Numbered> {
        let line = self.lines.next_line()?;
        Some(self.read(line, session))
    }

    /// The last message, where the body does not end with a line break.
    pub(super) fn finish(&mut self, session: &Session) -> Option<Numbered> {
        let line = self.lines.finish()?;
        Some(self.read(line, session))
    }

    /// The number of the last line that was whole.
    pub(super) const fn lines_read(&self) -> u64 {
        self.lines.count()
    }

    fn read(&mut self, line: Line, session: &Session) -> Numbered {
        match line {
            Line::TooLong { number } => Numbered {
                line: number,
                message: Err(self.too_long()),
            },
            Line::Full { number, bytes } => Numbered {
                line: number,
                message: self.message(bytes, session),
            },
        }
    }

    fn too_long(&self) -> Problem {
        let limit = self.line_bytes_max;
        Problem::new(Code::PayloadTooLarge)
            .detail(format!("the line is longer than {limit} bytes"))
            .limit(limit)
    }

    fn message(&mut self, bytes: Bytes, session: &Session) -> Result<Addressed, Problem> {
        if let Some(subject) = &self.subject {
            let message = Outbound::new(subject.to_nats(), bytes);
            return Ok(Addressed {
                subject: subject.clone(),
                message: message.with_headers(self.headers.clone()),
            });
        }
        let line = batch_line::decode(&bytes, None, self.context)?;
        session.permit_publish(&line.subject)?;
        self.trace.line(line.headers.as_ref());
        let message = Outbound::new(line.subject.to_nats(), line.payload);
        let all = with_own(self.headers.as_ref(), line.headers);
        headers::check(all.as_ref())?;
        Ok(Addressed {
            subject: line.subject,
            message: message.with_headers(all),
        })
    }
}

const PARENT: &str = "traceparent";

/// A line's own headers go before those of the request.
fn with_own(common: Option<&HeaderMap>, own: Option<HeaderMap>) -> Option<HeaderMap> {
    let Some(common) = common else { return own };
    let Some(mut own) = own else {
        return Some(common.clone());
    };
    // A state belongs to its parent.
    let has_parent = own.get(PARENT).is_some();
    for (name, values) in common.iter() {
        let is_state_of_another = has_parent && AsRef::<str>::as_ref(name) == "tracestate";
        if !is_state_of_another && own.get(name.clone()).is_none() {
            for value in values {
                own.append(name.clone(), value.clone());
            }
        }
    }
    Some(own)
}
