//! Which form a client wants.

use http::header::{ACCEPT, CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName};

use crate::api::answer;
use crate::problem::{Code, Problem};

/// The form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Server-sent events.
    Sse,
    /// One JSON object a line.
    Ndjson,
    /// One JSON object a text frame.
    WebSocket,
}

/// The form that the headers ask for: server-sent events where they leave it open.
///
/// # Errors
/// When they accept none of them.
pub fn wanted(headers: &HeaderMap) -> Result<Wanted, Problem> {
    if lists(headers, &CONNECTION, "upgrade") && lists(headers, &UPGRADE, "websocket") {
        return Ok(Wanted::WebSocket);
    }
    let mut best: Option<(u16, Wanted)> = None;
    let mut is_empty = true;
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            is_empty &= range.trim().is_empty();
            let Some((quality, form)) = accepted(range) else {
                continue;
            };
            if best.is_none_or(|(most, _)| quality > most) {
                best = Some((quality, form));
            }
        }
    }
    match best {
        Some((1.., form)) => Ok(form),
        None if is_empty => Ok(Wanted::Sse),
        Some(_) | None => Err(Problem::new(Code::NotAcceptable)
            .detail("a stream comes as text/event-stream or application/x-ndjson")),
    }
}

/// A media range with its quality in thousandths, where it covers a form.
fn accepted(range: &str) -> Option<(u16, Wanted)> {
    let essence = range.split(';').next()?.trim().to_ascii_lowercase();
    let form = match essence.as_str() {
        "text/event-stream" | "text/*" | "*/*" => Wanted::Sse,
        "application/x-ndjson" | "application/ndjson" | "application/*" => Wanted::Ndjson,
        _ => return None,
    };
    Some((answer::quality(range.as_bytes()), form))
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Option<Wanted> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        wanted(&headers).ok()
    }

    #[test]
    fn the_accept_header_chooses() {
        for (accept, form) in [
            ("", Some(Wanted::Sse)),
            ("*/*", Some(Wanted::Sse)),
            ("text/*;q=0.1", Some(Wanted::Sse)),
            ("Text/Event-Stream", Some(Wanted::Sse)),
            ("application/x-ndjson", Some(Wanted::Ndjson)),
            ("application/*", Some(Wanted::Ndjson)),
            ("application/*;q=0.2, text/*", Some(Wanted::Sse)),
            ("application/x-ndjson, */*;q=0.1", Some(Wanted::Ndjson)),
            ("text/event-stream, application/x-ndjson", Some(Wanted::Sse)),
            (
                "text/event-stream;q=0.5, application/x-ndjson;q=0.9",
                Some(Wanted::Ndjson),
            ),
            ("text/event-stream;q=0", None),
            ("application/json", None),
            (
                "text/html, application/xhtml+xml, */*;q=0.8",
                Some(Wanted::Sse),
            ),
        ] {
            assert_eq!(of(&[("accept", accept)]), form, "{accept}");
        }
        assert_eq!(of(&[]), Some(Wanted::Sse));
        let two = [("accept", "text/html"), ("accept", "application/x-ndjson")];
        assert_eq!(of(&two), Some(Wanted::Ndjson));
    }

    #[test]
    fn an_upgrade_is_one_only_when_both_headers_say_so() {
        let upgrade = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
        ];
        assert_eq!(of(&upgrade), Some(Wanted::WebSocket));
        assert_eq!(of(&[("upgrade", "websocket")]), Some(Wanted::Sse));
        let h2c = [("connection", "upgrade"), ("upgrade", "h2c")];
        assert_eq!(of(&h2c), Some(Wanted::Sse));
    }
}
