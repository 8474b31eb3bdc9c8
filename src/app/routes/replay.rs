//! The routes that read streams from any position on.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::Context;
use super::messages::describe::listed;
use super::streams::{lifetimes, stream};
use crate::api::jetstream::replay::{Replay, handle};
use crate::config::{Action, Policy};
use crate::router::{Kind, Route};

/// The built-in one and the declared ones.
pub(super) fn routes(context: &Context<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    if context.config.api.jetstream.enabled {
        routes.push(built_in(context));
    }
    routes.extend(declared(context));
    routes
}

fn built_in(context: &Context<'_>) -> Route {
    let api = &context.config.api;
    // How a stream is opened and how many there may be is the same for all streams.
    let policy = Policy {
        rate: api.jetstream.rate.clone(),
        breaker: api.jetstream.breaker,
        ..api.subscribe.policy()
    };
    let waits = policy.when_disconnected.waits();
    let subjects = &api.jetstream.subjects;
    let verb = Replay::built_in(
        context.replays,
        subjects,
        waits,
        lifetimes(context, "replay"),
    );
    let path = "/v1/streams/{stream}/subscribe";
    Route::new("replay", Method::GET, path, policy)
        .kind(Kind::Stream)
        .describe(operation)
        .handler(handle, Arc::new(verb))
}

fn declared(context: &Context<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for route in &context.config.routes {
        let Some(Action::Replay(action)) = route.action() else {
            continue;
        };
        let policy = route.policy();
        let waits = policy.when_disconnected.waits();
        let (params, lifetimes) = (&route.params, lifetimes(context, &route.name));
        let verb = Replay::declared(context.replays, action, params, waits, lifetimes);
        let method = route.matches.method.to_http();
        let path = route.matches.path.as_str().to_owned();
        let operation = json!({
            "summary": "Read a stream",
            "tags": ["routes"],
            "parameters": listed(route),
            "responses": {"200": stream()},
        });
        let route = Route::new(route.name.clone(), method, path, policy)
            .kind(Kind::Stream)
            .describe(move || operation.clone())
            .handler(handle, Arc::new(verb));
        routes.push(route);
    }
    routes
}

fn operation() -> Value {
    let parameter = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "description": description, "schema": schema});
    let one_of = |words: &[&str]| json!({"type": "string", "enum": words});
    let text = |example: &str| json!({"type": "string", "examples": [example]});
    json!({
        "summary": "Replay a stream and follow it",
        "tags": ["jetstream"],
        "description": "In order, each message once, from any position on. Server-sent events by default, NDJSON with `Accept: application/x-ndjson`, a WebSocket with `Upgrade: websocket`. The `id:` of an event is where a client resumes.",
        "parameters": [
            {
                "name": "subject", "in": "query", "explode": true,
                "description": "Once or more often; subjects may not overlap. The whole stream without one.",
                "schema": {"type": "array", "items": {"type": "string"}},
            },
            parameter("from", "Where to begin: `new`, `all`, `last`, `last_per_subject`, `seq:<number>` or `time:<RFC 3339>`. A number beyond the last begins with the next message, as in NATS.", text("seq:42")),
            parameter("until", "`now` ends the stream when it has caught up.", one_of(&["now"])),
            parameter("last_event_id", "Where to resume, like the header `Last-Event-ID`; counts before `from`.", text("41")),
            parameter("format", "Envelopes or payloads.", one_of(&["envelope", "raw"])),
            parameter("encoding", "The form of the envelope's data.", one_of(&["auto", "json", "text", "base64"])),
            parameter("max", "End after so many messages.", json!({"type": "integer", "minimum": 1})),
            parameter("errors", "`event`: a retryable problem is a 200 with one event.", one_of(&["status", "event"])),
            parameter("timeout", "How long opening may take.", text("10s")),
        ],
        "responses": {"101": {"description": "A WebSocket."}, "200": stream()},
    })
}
