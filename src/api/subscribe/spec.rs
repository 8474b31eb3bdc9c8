//! What one request for a subscription asks for.

use http::{HeaderMap, HeaderName};

use super::Defaults;
use super::accept::Wanted;
use super::live::Shape;
use crate::api::query::{Query, invalid};
use crate::api::stream_body::Form;
use crate::config::OnSlow;
use crate::problem::Problem;
use crate::subject::{Name, SubjectPattern};
use crate::translate::envelope::Encoding;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A subscription as it was asked for.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The subjects, which do not overlap.
    pub subjects: Vec<SubjectPattern>,
    /// The queue group.
    pub queue: Option<Name>,
    /// Payloads instead of envelopes.
    pub raw: bool,
    /// The envelope's form.
    pub encoding: Encoding,
    /// End after so many messages.
    pub max: Option<u64>,
    /// What happens when the client is too slow.
    pub on_slow: OnSlow,
    /// The client was here before, and missed what came in between.
    pub returns: bool,
}

impl Spec {
    pub(super) fn read(
        subjects: Vec<SubjectPattern>,
        query: &Query<'_>,
        headers: &HeaderMap,
        wanted: Wanted,
        defaults: &Defaults,
    ) -> Result<Self, Problem> {
        let queue = query.read("queue", Name::parse)?;
        let queue = queue.or_else(|| defaults.queue.clone());
        let raw = query.read("format", format)?.unwrap_or(false);
        if raw && wanted == Wanted::Ndjson {
            return Err(invalid("format", "NDJSON takes `envelope` only"));
        }
        let max = query.number("max")?;
        if max == Some(0) {
            return Err(invalid("max", "must be at least 1"));
        }
        let asked = query.read("on_slow", on_slow)?;
        query.read("errors", errors)?;
        Ok(Self {
            subjects,
            raw,
            encoding: query.parsed("encoding")?.unwrap_or_default(),
            max,
            on_slow: defaults.on_slow(asked, queue.is_some()),
            queue,
            returns: wanted == Wanted::Sse && was_here(query, headers),
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

fn was_here(query: &Query<'_>, headers: &HeaderMap) -> bool {
    headers.get(LAST_EVENT_ID).is_some_and(|id| !id.is_empty())
        || query.get("last_event_id").is_some_and(|id| !id.is_empty())
}

fn format(text: &str) -> Result<bool, &'static str> {
    match text {
        "envelope" => Ok(false),
        "raw" => Ok(true),
        _ => Err("a format is `envelope` or `raw`"),
    }
}

fn on_slow(text: &str) -> Result<OnSlow, &'static str> {
    match text {
        "drop" => Ok(OnSlow::Drop),
        "end" => Ok(OnSlow::End),
        _ => Err("`drop` or `end`"),
    }
}

/// The request id's layer reads it, for it sees the problems of all layers.
fn errors(text: &str) -> Result<(), &'static str> {
    match text {
        "status" | "event" => Ok(()),
        _ => Err("`status` or `event`"),
    }
}
