//! A reply that says that the service could not do it.

use crate::nats::Inbound;
use crate::problem::{Code, Problem};
use crate::translate::envelope::{Encoding, write_payload};
use crate::translate::service_error;

const DETAIL_CHARS_MAX: usize = 512;

/// The problem that a reply reports, with its payload.
pub(in crate::api) fn in_reply(reply: &Inbound) -> Option<Problem> {
    let error = service_error::in_reply(reply.headers.as_ref())?;
    let words = if error.description.is_empty() {
        "the service gave no description"
    } else {
        error.description
    };
    let said = format!("{}: {words}", error.code);
    let problem = Problem::new(Code::ServiceError)
        .status(error.status)
        .detail(said.chars().take(DETAIL_CHARS_MAX).collect::<String>());
    Some(problem.raw_member("reply", as_json(&reply.payload)))
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

    fn reply(code: Option<&str>, payload: &'static [u8]) -> Inbound {
        let mut headers = HeaderMap::new();
        if let Some(code) = code {
            headers.append("Nats-Service-Error-Code", code);
            headers.append("Nats-Service-Error", "sold out");
        }
        Inbound {
            subject: "a".into(),
            reply: None,
            payload: payload.into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_service_error_is_a_problem_with_the_reply_in_it() {
        assert!(in_reply(&reply(None, b"fine")).is_none());
        for (payload, encoding, data) in [
            (&b"{\"left\":0}"[..], "json", json!({"left": 0})),
            (b"none left", "text", json!("none left")),
            (b"\xff", "base64", json!("/w==")),
            (b"", "text", json!("")),
        ] {
            let problem = in_reply(&reply(Some("409"), payload)).unwrap();
            let body = problem.to_json(None);
            assert_eq!(body["status"], 409);
            assert_eq!(body["code"], "service-error");
            assert_eq!(body["outcome"], "rejected");
            assert_eq!(body["source"], "responder");
            assert_eq!(body["detail"], "409: sold out");
            assert_eq!(body["reply"], json!({"encoding": encoding, "data": data}));
        }
        let digits = b"{\"id\":123456789012345678901234567890,\n\"price\":1.10}";
        let exact = in_reply(&reply(Some("409"), digits)).unwrap();
        let text = exact.to_text(Some("r-1"));
        let reply_member = "\"reply\":{\"encoding\":\"json\",\"data\":{\"id\":123456789012345678901234567890, \"price\":1.10}}";
        assert!(text.contains(reply_member), "{text}");
        let unauthorized = in_reply(&reply(Some("401"), b"")).unwrap();
        assert_eq!(unauthorized.http_status(), 502);
        assert!(unauthorized.sentence().starts_with("401"));
    }
}
