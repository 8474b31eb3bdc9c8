//! What the OpenAPI document says of them.

use serde_json::{Map, Value, json};

use crate::api::batch::Form;
use crate::config::{Confirm, Param, PublishAction, RequestAction, Route};

const BATCH: &str = "One JSON object a line, or with `split=lines` on `/v1/publish/{subject}` one payload a \
    line. `timeout` is the longest time without progress. A line that fails does not stop the others: \
    the problem `batch-incomplete` lists up to 100 of them in `failed` and counts all in \
    `failed_total`, beside `published`. Where NATS was lost or stood still, `unknown` \
    (`from_line`, `to_line`) may have arrived, and nothing after `stopped_after_line` was sent; an \
    `Idempotency-Key` is refused, each line has its own `msg_id`.";

const REQUEST: &str = "The reply's payload, byte for byte, is the body. `max_replies` or `gap` collect \
    many replies, as a JSON array of envelopes or, with `Accept: application/x-ndjson`, one a line as \
    it comes. `Natsway-End`, or the last line, says why they ended: `count`, `gap`, `sentinel` (a reply \
    without a payload, which is not among them), `timeout`, `size` (an array holds 8 MiB); a stream \
    may also end with `disconnected`, `slow-client` or `draining`.";

pub(super) fn publish() -> Value {
    let stored = json!({
        "type": "object",
        "required": ["stream", "seq", "duplicate"],
        "properties": {
            "stream": {"type": "string"},
            "seq": {"type": "integer"},
            "duplicate": {"type": "boolean"},
            "domain": {"type": "string"},
        },
    });
    json!({
        "summary": "Publish a message",
        "description": "The body, byte for byte, is the payload. With `split=lines` every line is a message of its own.",
        "tags": ["messages"],
        "parameters": parameters(&[
            "confirm", "split", "timeout", "expect_stream", "expect_last_seq",
            "expect_last_subject_seq", "ttl",
        ]),
        "requestBody": any_body(),
        "responses": {
            "200": {
                "description": "A stream has stored it (`confirm=stream`).",
                "content": {"application/json": {"schema": stored}},
            },
            "202": {"description": "Accepted into the send queue (`confirm=none`)."},
            "204": {"description": "The NATS server has read it (`confirm=server`)."},
        },
    })
}

pub(super) fn batch(form: Form) -> Value {
    let line = json!({
        "type": "object",
        "required": ["subject"],
        "properties": {
            "subject": {"type": "string"},
            "data": {},
            "encoding": {"enum": ["json", "text", "base64"]},
            "headers": {"type": "object"},
            "msg_id": {"type": "string"},
        },
    });
    // Where single messages are switched off, the two forms are two operations.
    let (id, body) = match form {
        Form::Ndjson => ("batch", json!({"application/x-ndjson": {"schema": line}})),
        Form::Lines => ("batch-lines", json!({"*/*": {}})),
    };
    json!({
        "operationId": id,
        "summary": "Publish many messages, streamed",
        "description": BATCH,
        "tags": ["messages"],
        "parameters": parameters(&["confirm", "timeout"]),
        "requestBody": {"required": true, "content": body},
        "responses": {"200": {
            "description": "All of them were published as `confirm` says.",
            "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["published"],
                "properties": {
                    "published": {"type": "integer"},
                    "streams": {"type": "object"},
                },
            }}},
        }},
    })
}

pub(super) fn request() -> Value {
    json!({
        "summary": "Send a request and answer with the reply",
        "description": REQUEST,
        "tags": ["messages"],
        "parameters": parameters(&["timeout", "max_replies", "gap"]),
        "requestBody": any_body(),
        "responses": replied(),
    })
}

pub(super) fn declared_publish(route: &Route, action: &PublishAction) -> Value {
    let own = [action.confirm];
    let confirms = match route.params.contains(&Param::Confirm) {
        true => &[Confirm::None, Confirm::Server, Confirm::Stream][..],
        false => &own[..],
    };
    let responses: Map<String, Value> = confirms
        .iter()
        .map(|confirm| match confirm {
            Confirm::None => ("202", "Accepted into the send queue."),
            Confirm::Server => ("204", "The NATS server has read it."),
            Confirm::Stream => ("200", "A stream has stored it."),
        })
        .map(|(status, meaning)| (status.to_owned(), json!({"description": meaning})))
        .collect();
    json!({
        "summary": format!("Publish to {}", action.subject),
        "tags": ["routes"],
        "parameters": listed(route),
        "requestBody": any_body(),
        "responses": responses,
    })
}

pub(super) fn declared_request(route: &Route, action: &RequestAction) -> Value {
    let mut operation = json!({
        "summary": format!("Request from {}", action.subject),
        "tags": ["routes"],
        "parameters": listed(route),
        "responses": replied(),
    });
    // The body of a GET has no meaning to HTTP.
    if route.matches.method.to_http() != http::Method::GET {
        operation["requestBody"] = any_body();
    }
    operation
}

fn replied() -> Value {
    json!({"200": {"description": "The reply.", "content": {"*/*": {}}}})
}

fn any_body() -> Value {
    json!({"content": {"*/*": {}}})
}

/// The query parameters that a declared route lists.
pub(in crate::app::routes) fn listed(route: &Route) -> Value {
    let names: Vec<&str> = route.params.iter().map(|param| param.as_str()).collect();
    parameters(&names)
}

fn parameters(names: &[&str]) -> Value {
    names.iter().map(|name| parameter(name)).collect()
}

fn parameter(name: &str) -> Value {
    let schema = match Param::ALL.iter().find(|param| param.as_str() == name) {
        Some(Param::Confirm) => json!({"enum": ["none", "server", "stream"]}),
        Some(Param::Split) => json!({"const": "lines"}),
        Some(Param::ExpectLastSeq | Param::ExpectLastSubjectSeq) => json!({"type": "integer"}),
        Some(Param::MaxReplies) => json!({"type": "integer", "minimum": 2, "maximum": 1000}),
        Some(Param::Timeout | Param::Gap | Param::Ttl) => {
            json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})
        }
        _ => json!({"type": "string"}),
    };
    json!({"name": name, "in": "query", "schema": schema})
}
