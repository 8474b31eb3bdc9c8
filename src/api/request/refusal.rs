//! A reply that says that the service could not do it.

use std::sync::Arc;

use super::written_down;
use crate::layers::memory::Budget;
use crate::nats::Reply;
use crate::problem::{Code, Problem};
use crate::translate::envelope::{Encoding, write_payload};
use crate::translate::service_error;

const DETAIL_CHARS_MAX: usize = 512;

/// The reply, or the problem that it reports, with its payload where there is room for that as JSON.
///
/// # Errors
/// When the service could not do it.
pub(in crate::api) fn check(reply: Reply, bodies: &Arc<Budget>) -> Result<Reply, Problem> {
    let Some(error) = service_error::in_reply(reply.message.headers.as_ref()) else {
        return Ok(reply);
    };
    let words = if error.description.is_empty() {
        "the service gave no description"
    } else {
        error.description
    };
    let said = format!("{}: {words}", error.code);
    let problem = Problem::new(Code::ServiceError)
        .status(error.status)
        .detail(said.chars().take(DETAIL_CHARS_MAX).collect::<String>());
    let payload = &reply.message.payload;
    let held = (payload.len(), reply.held);
    Err(match written_down(held, bodies, || as_json(payload)) {
        Some((json, held)) => problem.raw_member("reply", json, held),
        None => problem,
    })
}

/// As in an envelope: what is JSON stands there byte for byte, however many digits its numbers have.
fn as_json(payload: &[u8]) -> String {
    let mut json = Vec::new();
    write_payload(payload, Encoding::Auto, &mut json);
    json[0] = b'{';
    json.push(b'}');
    String::from_utf8(json).expect("an envelope's members are text")
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::nats::Inbound;
    use crate::telemetry::metrics::Gauge;

    fn reply(code: Option<&str>, payload: &'static [u8]) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some(code) = code {
            headers.append("Nats-Service-Error-Code", code);
            headers.append("Nats-Service-Error", "sold out");
        }
        let message = Inbound {
            subject: "a".into(),
            reply: None,
            payload: payload.into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        Reply {
            message,
            held: None,
        }
    }

    fn problem(code: &str, payload: &'static [u8], bodies: &Arc<Budget>) -> Problem {
        check(reply(Some(code), payload), bodies).unwrap_err()
    }

    fn budget(bytes: u64) -> (Arc<Budget>, Gauge) {
        let gauge = Gauge::default();
        (Budget::new(bytes, gauge.clone()), gauge)
    }

    #[test]
    fn a_service_error_is_a_problem_with_the_reply_in_it() {
        let (bodies, _) = budget(1000);
        assert!(check(reply(None, b"fine"), &bodies).is_ok());
        for (payload, encoding, data) in [
            (&b"{\"left\":0}"[..], "json", json!({"left": 0})),
            (b"none left", "text", json!("none left")),
            (b"\xff", "base64", json!("/w==")),
            (b"", "text", json!("")),
        ] {
            let problem = problem("409", payload, &bodies);
            let body = problem.to_json(None);
            assert_eq!(body["status"], 409);
            assert_eq!(body["code"], "service-error");
            assert_eq!(body["outcome"], "rejected");
            assert_eq!(body["source"], "responder");
            assert_eq!(body["detail"], "409: sold out");
            assert_eq!(body["reply"], json!({"encoding": encoding, "data": data}));
        }
        let digits = b"{\"id\":123456789012345678901234567890,\n\"price\":1.10}";
        let exact = problem("409", digits, &bodies);
        let text = exact.to_text(Some("r-1"));
        let reply_member = "\"reply\":{\"encoding\":\"json\",\"data\":{\"id\":123456789012345678901234567890, \"price\":1.10}}";
        assert!(text.contains(reply_member), "{text}");
        let unauthorized = problem("401", b"", &bodies);
        assert_eq!(unauthorized.http_status(), 502);
        assert!(unauthorized.sentence().starts_with("401"));
    }

    #[test]
    fn the_reply_is_paid_for_as_json_and_left_out_where_there_is_no_room() {
        let (bodies, used) = budget(100);
        let first = problem("409", b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01", &bodies);
        let json = r#"{"encoding":"text","data":""}"#.len() + 60;
        assert_eq!(used.get(), json as i64);
        let held = first.clone().held();
        drop(first);
        assert_eq!(used.get(), json as i64);
        let second = problem("409", b"\x01\x01\x01\x01", &bodies);
        assert_eq!(second.to_json(None).get("reply"), None);
        assert_eq!(second.sentence(), "409: sold out");
        assert_eq!(used.get(), json as i64);
        drop(held);
        assert_eq!(used.get(), 0);
    }
}
