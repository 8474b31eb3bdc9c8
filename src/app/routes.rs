//! Every route there is: the built-in verbs, then the declared ones.

mod common;
mod jetstream;
mod messages;
mod replay;
mod streams;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::api::jetstream::Tokens;
use crate::api::jetstream::replay::Replays;
use crate::config::{Concurrency, Config, Policy, SizeLimit, WhenDisconnected};
use crate::lifecycle::Drain;
use crate::nats::Nats;
use crate::router::openapi::Document;
use crate::router::{Built, Route, RouteConflict, Shared};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;

/// What routes are made from.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) nats: &'a Arc<Nats>,
    pub(super) drain: Drain,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) tokens: Tokens,
    pub(super) replays: &'a Arc<Replays>,
    pub(super) tracer: Option<Tracer>,
}

/// Collects and builds them.
pub(super) fn build(context: &Context<'_>, shared: &Shared) -> Result<Built, RouteConflict> {
    let mut routes = Vec::new();
    let page = Page::default();
    if context.config.api.openapi {
        routes.push(openapi(page.clone()));
    }
    routes.extend(jetstream::routes(context, shared));
    routes.extend(replay::routes(context));
    routes.extend(messages::routes(context, shared)?);
    let common = common::Common::new(context, shared);
    routes.extend(streams::routes(context, shared, &common));
    let built = Built::new(routes, shared)?;
    page.show(built.openapi());
    Ok(built)
}

/// The document, known once all routes are, its own among them.
#[derive(Clone, Debug, Default)]
struct Page(Arc<OnceLock<Arc<Document>>>);

impl Page {
    fn show(&self, document: &Arc<Document>) {
        let _ = self.0.set(Arc::clone(document));
    }
}

fn openapi(page: Page) -> Route {
    let policy = Policy {
        timeout: Duration::from_secs(5),
        timeout_max: Duration::from_secs(5),
        concurrency: Concurrency::default(),
        rate: None,
        body_limit: SizeLimit::Bytes(0),
        breaker: None,
        when_disconnected: WhenDisconnected::Fail,
    };
    Route::new("openapi", Method::GET, "/v1/openapi.json", policy)
        .describe(|| {
            json!({
                "summary": "This document",
                "tags": ["natsway"],
                "responses": {"200": {
                    "description": "OpenAPI 3.1",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                }},
            })
        })
        .handler(show, page)
}

async fn show(State(page): State<Page>) -> Response {
    let text = page
        .0
        .get()
        .map(|document| document.text())
        .unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
