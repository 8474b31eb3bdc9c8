//! What one request for a replay asks for.

use http::{HeaderMap, HeaderName};

use crate::api::query::{Query, invalid};
use crate::api::subscribe::{View, Wanted};
use crate::config::ReplayFrom;
use crate::problem::{Code, Problem};
use crate::translate::position::ResumeId;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A replay as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) view: View,
    /// Where it begins, unless it resumes.
    pub(super) from: ReplayFrom,
    /// Where it resumes.
    pub(super) resume: Option<ResumeId>,
    /// It ends when it has caught up.
    pub(super) until_now: bool,
}

impl Spec {
    pub(super) fn read(
        query: &Query<'_>,
        headers: &HeaderMap,
        wanted: Wanted,
        from: ReplayFrom,
        until_now: bool,
    ) -> Result<Self, Problem> {
        Ok(Self {
            view: View::read(query, wanted)?,
            from: query.parsed("from")?.unwrap_or(from),
            resume: resume(query, headers)?,
            until_now: query.read("until", until)?.unwrap_or(until_now),
        })
    }
}

/// The header is newer: `EventSource` sends it when it comes back to a URL that may name an older
/// position.
fn resume(query: &Query<'_>, headers: &HeaderMap) -> Result<Option<ResumeId>, Problem> {
    if let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        return id.map(Some).ok_or_else(|| {
            Problem::new(Code::InvalidHeader)
                .detail("Last-Event-ID: not the `id:` of an event of a stream, and no sequence")
        });
    }
    let id = query.get("last_event_id").filter(|id| !id.is_empty());
    let id = id.map(str::parse).transpose();
    id.map_err(|error| invalid("last_event_id", error))
}

fn until(text: &str) -> Result<bool, &'static str> {
    match text {
        "now" => Ok(true),
        _ => Err("`now`, or nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::query::Params;

    fn read(text: &str, header: Option<&str>) -> Result<Spec, Problem> {
        let params = Params::built_in(&super::super::PARAMS);
        let query = Query::parse(Some(text), &params)?;
        let mut headers = HeaderMap::new();
        if let Some(id) = header {
            headers.insert(LAST_EVENT_ID, id.parse().unwrap());
        }
        Spec::read(&query, &headers, Wanted::Sse, ReplayFrom::New, false)
    }

    #[test]
    fn the_header_counts_before_the_query() {
        let seq = |query, header| read(query, header).unwrap().resume.map(|id| id.seq);
        assert_eq!(seq("", None), None);
        assert_eq!(seq("last_event_id=", Some("")), None);
        assert_eq!(seq("last_event_id=7", None), Some(7));
        assert_eq!(seq("last_event_id=7", Some("9-abc")), Some(9));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let spec = read("from=seq:42&until=now&max=3", None).unwrap();
        assert_eq!((spec.from, spec.until_now), (ReplayFrom::Seq(42), true));
        for (query, header, code) in [
            ("from=then", None, Code::InvalidParameter),
            ("from=seq:x", None, Code::InvalidParameter),
            ("from=time:noon", None, Code::InvalidParameter),
            ("until=later", None, Code::InvalidParameter),
            ("last_event_id=live", None, Code::InvalidParameter),
            ("", Some("live"), Code::InvalidHeader),
            ("on_slow=drop", None, Code::InvalidParameter),
            ("queue=q", None, Code::InvalidParameter),
            ("max=0", None, Code::InvalidParameter),
        ] {
            assert_eq!(
                read(query, header).unwrap_err().code(),
                code,
                "{query} {header:?}"
            );
        }
    }
}
