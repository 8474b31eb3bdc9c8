//! How a client wants to see messages, wherever they come from.

use super::accept::Wanted;
use super::live::Shape;
use crate::api::query::{Query, invalid};
use crate::api::stream_body::Form;
use crate::problem::Problem;
use crate::translate::envelope::Encoding;

/// What `format`, `encoding` and `max` say.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Payloads instead of envelopes.
    pub raw: bool,
    /// The envelope's form.
    pub encoding: Encoding,
    /// End after so many messages.
    pub max: Option<u64>,
}

impl View {
    /// Reads the query.
    ///
    /// # Errors
    /// When a parameter is wrong, or NDJSON is asked for payloads.
    pub fn read(query: &Query<'_>, wanted: Wanted) -> Result<Self, Problem> {
        let raw = query.read("format", format)?.unwrap_or(false);
        if raw && wanted == Wanted::Ndjson {
            return Err(invalid("format", "NDJSON takes `envelope` only"));
        }
        let max = query.number("max")?;
        if max == Some(0) {
            return Err(invalid("max", "must be at least 1"));
        }
        query.read("errors", errors)?;
        Ok(Self {
            raw,
            encoding: query.parsed("encoding")?.unwrap_or_default(),
            max,
        })
    }

    /// How a message looks in an HTTP answer.
    #[must_use]
    pub const fn blocks(&self, form: Form) -> Shape {
        match form {
            Form::Sse if self.raw => Shape::SseRaw,
            Form::Sse => Shape::Sse(self.encoding),
            Form::Ndjson => Shape::Line(self.encoding),
        }
    }

    /// How a message looks in a WebSocket frame.
    #[must_use]
    pub const fn frames(&self) -> Shape {
        if self.raw {
            return Shape::Payload;
        }
        Shape::Object(self.encoding)
    }
}

fn format(text: &str) -> Result<bool, &'static str> {
    match text {
        "envelope" => Ok(false),
        "raw" => Ok(true),
        _ => Err("a format is `envelope` or `raw`"),
    }
}

/// The request id's layer reads it, for it sees the problems of all layers.
fn errors(text: &str) -> Result<(), &'static str> {
    match text {
        "status" | "event" => Ok(()),
        _ => Err("`status` or `event`"),
    }
}
