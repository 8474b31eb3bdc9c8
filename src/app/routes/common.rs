//! What the endpoints for one message have in common with the WebSocket for many: a limit is one limit,
//! whichever way a message comes.

use std::sync::Arc;

use http::Method;

use super::Context;
use super::messages::{PUBLISH, REQUEST};
use crate::api::multiplex::Limits;
use crate::config::Policy;
use crate::layers::admission::Places;
use crate::router::Shared;

/// The limits of the built-in endpoints.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) publish: Limits,
    pub(super) request: Limits,
}

impl Common {
    pub(super) fn new(context: &Context<'_>, shared: &Shared) -> Self {
        let api = &context.config.api;
        let limits = |name: &str, path: &str, policy: &Policy| Limits {
            body: policy.body_limit,
            rate: shared.rate(name, &Method::POST, path, policy),
            places: Arc::new(Places::new(
                policy.concurrency,
                context.metrics.route(name, Method::POST.as_str()).waiting,
            )),
        };
        Self {
            publish: limits("publish", PUBLISH, &api.publish.policy()),
            request: limits("request", REQUEST, &api.request.policy()),
        }
    }
}
