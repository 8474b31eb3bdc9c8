//! What one request for a subscription asks for.

use http::{HeaderMap, HeaderName};

use super::Defaults;
use super::accept::Wanted;
use super::view::View;
use crate::api::query::Query;
use crate::config::OnSlow;
use crate::problem::Problem;
use crate::subject::{Name, SubjectPattern};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A subscription as it was asked for.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The subjects, which do not overlap.
    pub subjects: Vec<SubjectPattern>,
    /// The queue group.
    pub queue: Option<Name>,
    /// How messages are shown.
    pub view: View,
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
        let asked = query.read("on_slow", on_slow)?;
        Ok(Self {
            subjects,
            view: View::read(query, wanted)?,
            on_slow: defaults.on_slow(asked, queue.is_some()),
            queue,
            returns: wanted == Wanted::Sse && was_here(query, headers),
        })
    }
}

fn was_here(query: &Query<'_>, headers: &HeaderMap) -> bool {
    headers.get(LAST_EVENT_ID).is_some_and(|id| !id.is_empty())
        || query.get("last_event_id").is_some_and(|id| !id.is_empty())
}

fn on_slow(text: &str) -> Result<OnSlow, &'static str> {
    match text {
        "drop" => Ok(OnSlow::Drop),
        "end" => Ok(OnSlow::End),
        _ => Err("`drop` or `end`"),
    }
}
