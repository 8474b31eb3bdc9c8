//! The routes below `/v1/streams` and `/v1/acks`.

mod describe;

use std::sync::Arc;

use http::Method;

use super::Context;
use crate::api::jetstream::{JetStream, acks, consumers, fetch, messages, streams};
use crate::config::Policy;
use crate::router::{Route, Shared};

const STREAMS: &str = "/v1/streams";
const STREAM: &str = "/v1/streams/{stream}";
const CONSUMER: &str = "/v1/streams/{stream}/consumers/{consumer}";

/// All of them.
pub(super) fn routes(context: &Context<'_>, shared: &Shared) -> Vec<Route> {
    let api = &context.config.api;
    let settings = &api.jetstream;
    if !settings.enabled {
        return Vec::new();
    }
    let js = JetStream::new(
        context.nats,
        settings,
        api.manage,
        context.tokens.clone(),
        &shared.bodies,
        &context.drain,
        context.metrics.jetstream(),
    );
    let mut routes = of_streams(&js, &settings.policy());
    routes.extend(of_consumers(&js, &settings.policy()));
    routes
}

fn of_streams(js: &Arc<JetStream>, policy: &Policy) -> Vec<Route> {
    let route = |name, method, path| Route::new(name, method, path, policy.clone());
    let js = || Arc::clone(js);
    vec![
        route("streams-list", Method::GET, STREAMS)
            .with_head()
            .describe(describe::list_streams)
            .handler(streams::list, js()),
        route("streams-get", Method::GET, STREAM)
            .with_head()
            .describe(describe::get_stream)
            .handler(streams::get, js()),
        route("streams-put", Method::PUT, STREAM)
            .describe(describe::put_stream)
            .handler(streams::put, js()),
        route("streams-delete", Method::DELETE, STREAM)
            .describe(|| describe::delete("Delete a stream"))
            .handler(streams::delete, js()),
        route("streams-purge", Method::POST, "/v1/streams/{stream}/purge")
            .describe(describe::purge)
            .handler(streams::purge, js()),
        route(
            "messages-last",
            Method::GET,
            "/v1/streams/{stream}/messages/last",
        )
        .with_head()
        .describe(describe::last_message)
        .handler(messages::last, js()),
        route(
            "messages-get",
            Method::GET,
            "/v1/streams/{stream}/messages/{seq}",
        )
        .with_head()
        .describe(describe::get_message)
        .handler(messages::by_seq, js()),
    ]
}

fn of_consumers(js: &Arc<JetStream>, policy: &Policy) -> Vec<Route> {
    let route = |name, method, path| Route::new(name, method, path, policy.clone());
    let js = || Arc::clone(js);
    vec![
        route("consumers-get", Method::GET, CONSUMER)
            .with_head()
            .describe(describe::get_consumer)
            .handler(consumers::get, js()),
        route("consumers-put", Method::PUT, CONSUMER)
            .describe(describe::put_consumer)
            .handler(consumers::put, js()),
        route("consumers-delete", Method::DELETE, CONSUMER)
            .describe(|| describe::delete("Delete a consumer"))
            .handler(consumers::delete, js()),
        route(
            "fetch",
            Method::POST,
            "/v1/streams/{stream}/consumers/{consumer}/fetch",
        )
        .describe(describe::fetch)
        .handler(fetch::fetch, js()),
        route("acks-one", Method::POST, "/v1/acks/{token}")
            .describe(describe::ack)
            .handler(acks::one, js()),
        route("acks-many", Method::POST, "/v1/acks")
            .describe(describe::acks)
            .handler(acks::many, js()),
    ]
}
