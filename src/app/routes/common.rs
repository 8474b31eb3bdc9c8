//! What the endpoints for one message have in common with the WebSocket for many: a limit is one limit,
//! whichever way a message comes.

use http::Method;

use super::Context;
use crate::api::multiplex::Limits;
use crate::config::Policy;
use crate::router::{Kind, Shared};

/// The limits of the built-in endpoints.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) publish: Limits,
    pub(super) request: Limits,
}

impl Common {
    pub(super) fn new(context: &Context<'_>, shared: &Shared) -> Self {
        let api = &context.config.api;
        let limits = |name: &str, policy: &Policy| {
            let metrics = context.metrics.route(name, Method::POST.as_str());
            Limits {
                body: policy.body_limit,
                rate: shared.rate(name, Kind::Unary, policy),
                places: shared.places(name, Kind::Unary, policy, &metrics),
            }
        };
        Self {
            publish: limits("publish", &api.publish.policy()),
            request: limits("request", &api.request.policy()),
        }
    }
}
