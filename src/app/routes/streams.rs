//! The routes of the subscribe verbs.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::Context;
use super::common::Common;
use super::messages::describe::listed;
use crate::api::multiplex::{self, Multiplex, Publishing, Requesting};
use crate::api::session::Session;
use crate::api::stream_body::Lifetimes;
use crate::api::subscribe::{self, Defaults, Subscribe};
use crate::config::Action;
use crate::layers::access_log::{Frames, Named};
use crate::router::{Kind, Route, Shared};

/// The built-in ones and the declared ones.
pub(super) fn routes(context: &Context<'_>, shared: &Shared, common: &Common) -> Vec<Route> {
    let mut routes = Vec::new();
    if context.config.api.subscribe.enabled {
        routes.extend(built_in(context));
        routes.push(multiplexed(context, shared, common));
    }
    routes.extend(declared(context));
    routes
}

pub(super) fn lifetimes(context: &Context<'_>, route: &str) -> Lifetimes {
    Lifetimes {
        keep_alive: context.config.streams.keep_alive,
        max_age: context.config.streams.max_age(),
        drain: context.drain.clone(),
        ends: context.metrics.stream_ends(),
        lag: context.metrics.stream_lag(route),
        tracer: context.tracer.clone(),
    }
}

fn built_in(context: &Context<'_>) -> [Route; 2] {
    let settings = &context.config.api.subscribe;
    let session = Session::new(context.nats, &settings.subjects, settings.when_disconnected);
    let by_path = Subscribe::by_path(session.clone(), settings, lifetimes(context, "subscribe"));
    let by_query = Subscribe::by_query(session, settings, lifetimes(context, "subscribe-many"));
    [
        Route::new(
            "subscribe",
            Method::GET,
            "/v1/subscribe/{subject}",
            settings.policy(),
        )
        .kind(Kind::Stream)
        .describe(by_one_subject)
        .handler(subscribe::handle, Arc::new(by_path)),
        Route::new(
            "subscribe-many",
            Method::GET,
            "/v1/subscribe",
            settings.policy(),
        )
        .kind(Kind::Stream)
        .describe(by_subjects)
        .handler(subscribe::handle, Arc::new(by_query)),
    ]
}

fn multiplexed(context: &Context<'_>, shared: &Shared, common: &Common) -> Route {
    let api = &context.config.api;
    let settings = &api.subscribe;
    let (name, path, method) = ("ws", "/v1/ws", Method::GET);
    let named = Named {
        route: name.into(),
        path: path.into(),
        method: method.clone(),
    };
    let metrics = Arc::new(context.metrics.route(name, method.as_str()));
    let verb = Multiplex {
        session: Session::new(context.nats, &settings.subjects, settings.when_disconnected),
        defaults: Defaults::of(settings),
        timeout: settings.timeout,
        publishing: Publishing::new(
            &api.publish,
            context.nats,
            common.publish.clone(),
            &context.drain,
        ),
        requesting: Requesting::new(&api.request, context.nats, common.request.clone()),
        bodies: Arc::clone(&shared.bodies),
        problems: Frames::new(named, metrics, shared.access_log),
        lifetimes: lifetimes(context, name),
        tracer: shared.tracer.clone(),
    };
    let operation = || {
        json!({
            "summary": "Subscribe, publish and request over one WebSocket",
            "tags": ["subscribe"],
            "description": "JSON text frames; subprotocol `natsway.v1`, optional.",
            "responses": {"101": {"description": "A WebSocket."}},
        })
    };
    Route::new(name, method, path, settings.policy())
        .kind(Kind::Stream)
        .describe(operation)
        .handler(multiplex::handle, Arc::new(verb))
}

fn declared(context: &Context<'_>) -> Vec<Route> {
    let settings = &context.config.api.subscribe;
    let mut routes = Vec::new();
    for route in &context.config.routes {
        let Some(Action::Subscribe(action)) = route.action() else {
            continue;
        };
        let policy = route.policy();
        let session = Session::of_route(context.nats, &action.subjects, policy.when_disconnected);
        let lifetimes = lifetimes(context, &route.name);
        let verb = Subscribe::declared(session, action, &route.params, settings, lifetimes);
        let method = route.matches.method.to_http();
        let path = route.matches.path.as_str().to_owned();
        let operation = json!({
            "summary": "Subscribe",
            "tags": ["routes"],
            "parameters": listed(route),
            "responses": {"200": stream()},
        });
        let route = Route::new(route.name.clone(), method, path, policy)
            .kind(Kind::Stream)
            .describe(move || operation.clone())
            .handler(subscribe::handle, Arc::new(verb));
        routes.push(route);
    }
    routes
}

fn by_one_subject() -> Value {
    let subject = json!({
        "name": "subject", "in": "path", "required": true,
        "description": "May hold `*` and `>`; `>` is written `%3E`.",
        "schema": {"type": "string"},
    });
    operation("Subscribe to a subject", &subject)
}

fn by_subjects() -> Value {
    let subjects = json!({
        "name": "subject", "in": "query", "required": true, "explode": true,
        "description": "Once or more often; subjects may not overlap.",
        "schema": {"type": "array", "items": {"type": "string"}},
    });
    operation("Subscribe to several subjects", &subjects)
}

fn operation(summary: &str, subject: &Value) -> Value {
    let parameter = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "description": description, "schema": schema});
    let one_of = |words: &[&str]| json!({"type": "string", "enum": words});
    json!({
        "summary": summary,
        "tags": ["subscribe"],
        "description": "Server-sent events by default, NDJSON with `Accept: application/x-ndjson`, a WebSocket with `Upgrade: websocket`. The head is sent when NATS has the subscription.",
        "parameters": [
            subject,
            parameter("queue", "The queue group.", json!({"type": "string"})),
            parameter("format", "Envelopes or payloads.", one_of(&["envelope", "raw"])),
            parameter("encoding", "The form of the envelope's data.", one_of(&["auto", "json", "text", "base64"])),
            parameter("max", "End after so many messages.", json!({"type": "integer", "minimum": 1})),
            parameter("on_slow", "What happens when the client is too slow.", one_of(&["drop", "end"])),
            parameter("errors", "`event`: a retryable problem is a 200 with one event.", one_of(&["status", "event"])),
            parameter("last_event_id", "Like the header `Last-Event-ID`.", json!({"type": "string"})),
            parameter("timeout", "How long opening may take.", json!({"type": "string", "examples": ["10s"]})),
        ],
        "responses": {"101": {"description": "A WebSocket."}, "200": stream()},
    })
}

pub(super) fn stream() -> Value {
    json!({
        "description": "Messages as they come, until one side ends.",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    })
}
