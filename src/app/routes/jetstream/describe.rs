//! What the OpenAPI document says of them.

use serde_json::{Value, json};

pub(super) fn list_streams() -> Value {
    let stream = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "state": {"type": "object"},
    }});
    let streams = json!({"streams": {"type": "array", "items": stream}});
    operation(
        "List the streams that may be read",
        json!([timeout()]),
        json!({"200": answer("The streams.", &streams)}),
    )
}

pub(super) fn get_stream() -> Value {
    operation(
        "Look at a stream",
        json!([timeout()]),
        json!({"200": answer("Its configuration and state.", &config_and_state())}),
    )
}

pub(super) fn put_stream() -> Value {
    managed(
        "Create a stream, or change its configuration",
        json!({
            "200": answer("Changed; the configuration as the server took it.", &taken()),
            "201": answer("Created; the configuration as the server took it.", &taken()),
        }),
        true,
    )
}

pub(super) fn delete(summary: &str) -> Value {
    managed(summary, json!({"204": {"description": "Deleted."}}), false)
}

pub(super) fn purge() -> Value {
    let purged = json!({"purged": {"type": "integer"}});
    managed(
        "Remove all messages of a stream",
        json!({"200": answer("How many were removed.", &purged)}),
        false,
    )
}

pub(super) fn get_message() -> Value {
    operation(
        "Read one stored message",
        json!([timeout()]),
        json!({"200": payload()}),
    )
}

pub(super) fn last_message() -> Value {
    let subject = json!({"name": "subject", "in": "query", "required": true,
        "schema": {"type": "string"}, "description": "A literal subject."});
    operation(
        "Read the last stored message with a subject",
        json!([timeout(), subject]),
        json!({"200": payload()}),
    )
}

pub(super) fn get_consumer() -> Value {
    operation(
        "Look at a consumer",
        json!([timeout()]),
        json!({"200": answer("Its configuration and how far it is.", &config_and_state())}),
    )
}

pub(super) fn put_consumer() -> Value {
    managed(
        "Create a durable pull consumer, or change its configuration",
        json!({
            "200": answer("Changed; the configuration as the server took it.", &taken()),
            "201": answer("Created; the configuration as the server took it.", &taken()),
        }),
        true,
    )
}

pub(super) fn fetch() -> Value {
    let messages = json!({"messages": {"type": "array", "items": {"type": "object"}}});
    let number = |name: &str, most: u64, usual: &str| {
        json!({"name": name, "in": "query", "description": usual,
            "schema": {"type": "integer", "minimum": 1, "maximum": most}})
    };
    let mut fetched = answer("The messages; none when none came in time.", &messages);
    fetched["content"]["application/x-ndjson"] = json!({"schema": {"type": "object"}});
    operation(
        "Fetch messages of a durable pull consumer",
        json!([
            number("max", 1000, "The most messages; 10 unless told."),
            number("max_bytes", 8 << 20, "The most bytes of messages."),
            duration("wait", "How long to wait for the first message."),
        ]),
        json!({"200": fetched}),
    )
}

pub(super) fn ack() -> Value {
    operation(
        "Settle a fetched message",
        json!([
            timeout(),
            {"name": "kind", "in": "query",
                "schema": {"enum": ["ack", "nak", "term", "progress"], "default": "ack"}},
            duration("delay", "With `kind=nak`: when to deliver it again."),
            {"name": "reason", "in": "query", "schema": {"type": "string"},
                "description": "With `kind=term`: why."},
        ]),
        json!({"204": {"description": "The server has confirmed it."}}),
    )
}

pub(super) fn acks() -> Value {
    let entry = json!({"type": "object", "required": ["token"], "properties": {
        "token": {"type": "string"},
        "kind": {"enum": ["ack", "nak", "term", "progress"]},
        "delay": {"type": "string"},
        "reason": {"type": "string"},
    }});
    let result = json!({"type": "object", "properties": {
        "status": {"type": "integer"},
        "problem": {"$ref": "#/components/schemas/Problem"},
    }});
    let results = json!({"results": {"type": "array", "items": result}});
    let mut operation = operation(
        "Settle several fetched messages",
        json!([timeout()]),
        json!({"200": answer("One result for each, in order.", &results)}),
    );
    operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema":
        {"type": "object", "required": ["acks"], "properties": {
            "acks": {"type": "array", "items": entry, "maxItems": 1000},
        }}
    }}});
    operation
}

#[expect(clippy::needless_pass_by_value, reason = "literals")]
fn operation(summary: &str, parameters: Value, responses: Value) -> Value {
    json!({
        "summary": summary,
        "tags": ["jetstream"],
        "parameters": parameters,
        "responses": responses,
    })
}

fn managed(summary: &str, responses: Value, has_body: bool) -> Value {
    let mut operation = operation(summary, json!([timeout()]), responses);
    operation["description"] = "Only with `api.manage: true`.".into();
    if has_body {
        operation["requestBody"] = json!({"required": true, "content": {
            "application/json": {"schema": {"type": "object"}},
        }});
    }
    operation
}

fn timeout() -> Value {
    duration("timeout", "When the answer must be there.")
}

fn duration(name: &str, description: &str) -> Value {
    let schema = json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"});
    json!({"name": name, "in": "query", "schema": schema, "description": description})
}

fn answer(description: &str, properties: &Value) -> Value {
    let schema = json!({"type": "object", "properties": properties});
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn config_and_state() -> Value {
    json!({"config": {"type": "object"}, "state": {"type": "object"}})
}

fn taken() -> Value {
    json!({
        "config": {"type": "object"},
        "state": {"type": "object"},
        "ignored": {"type": "array", "items": {"type": "string"},
            "description": "Members that an older server dropped."},
    })
}

fn payload() -> Value {
    let header = || json!({"schema": {"type": "string"}});
    json!({
        "description": "The payload; the message's headers as `NatsH-…`.",
        "headers": {
            "Nats-Stream": header(), "Nats-Sequence": header(),
            "Nats-Subject": header(), "Nats-Time-Stamp": header(),
        },
        "content": {"*/*": {}},
    })
}
