//! The routes that send messages: publish, batch and request, built in and declared.

pub(super) mod describe;

use http::Method;

use super::Context;
use crate::api::{batch, publish, request};
use crate::config::{self, Action};
use crate::router::{Kind, Route, RouteConflict, Shared};
use crate::telemetry::traces;

/// Where one message is published.
pub(super) const PUBLISH: &str = "/v1/publish/{subject}";
/// Where one request is sent.
pub(super) const REQUEST: &str = "/v1/request/{subject}";

/// All of them.
pub(super) fn routes(context: &Context<'_>, shared: &Shared) -> Result<Vec<Route>, RouteConflict> {
    let mut routes = built_in(context, shared);
    for route in &context.config.routes {
        routes.extend(declared(context, shared, route)?);
    }
    Ok(routes)
}

fn built_in(context: &Context<'_>, shared: &Shared) -> Vec<Route> {
    let api = &context.config.api;
    let mut routes = Vec::new();
    if api.batch.enabled {
        routes.push(batch(context, shared, "/v1/publish", batch::Form::Ndjson));
    }
    if api.publish.enabled {
        let publish = publish(context);
        routes.push(if api.batch.enabled {
            let lines = batch(context, shared, PUBLISH, batch::Form::Lines);
            publish.or_when(batch::is_split, lines)
        } else {
            publish
        });
    } else if api.batch.enabled {
        routes.push(batch(context, shared, PUBLISH, batch::Form::Lines));
    }
    if api.request.enabled {
        routes.push(request(context, shared));
    }
    routes
}

fn publish(context: &Context<'_>) -> Route {
    let settings = &context.config.api.publish;
    Route::new("publish", Method::POST, PUBLISH, settings.policy())
        .describe(describe::publish)
        .answer(
            publish::handle,
            publish::Publish::built_in(settings, context.nats, &context.drain),
        )
}

fn batch(context: &Context<'_>, shared: &Shared, path: &'static str, form: batch::Form) -> Route {
    let api = &context.config.api;
    Route::new("batch", Method::POST, path, api.batch.policy())
        .kind(Kind::Upload(api.batch.idle_timeout))
        .describe(move || describe::batch(form))
        .handler(
            batch::handle,
            batch::Batch::new(
                &api.batch,
                &api.publish,
                form,
                context.nats,
                &shared.bodies,
                traces::client_context(shared.tracer.as_ref()),
            ),
        )
}

fn request(context: &Context<'_>, shared: &Shared) -> Route {
    let settings = &context.config.api.request;
    Route::new("request", Method::POST, REQUEST, settings.policy())
        .describe(describe::request)
        .answer(
            request::handle,
            request::Requester::built_in(settings, context.nats, &shared.bodies, &shared.drain),
        )
}

fn declared(
    context: &Context<'_>,
    shared: &Shared,
    route: &config::Route,
) -> Result<Option<Route>, RouteConflict> {
    let unusable =
        |error| RouteConflict::unusable(&route.name, route.matches.path.as_str(), &error);
    let (method, path) = (route.matches.method.to_http(), route.matches.path.as_str());
    let unhandled = || {
        Route::new(
            route.name.clone(),
            method.clone(),
            path.to_owned(),
            route.policy(),
        )
    };
    Ok(match route.action() {
        Some(Action::Publish(action)) => {
            let operation = describe::declared_publish(route, action);
            let verb = publish::Publish::declared(route, action, context.nats, &shared.drain)
                .map_err(unusable)?;
            let unhandled = unhandled().describe(move || operation.clone());
            Some(unhandled.answer(publish::handle, verb))
        }
        Some(Action::Request(action)) => {
            let operation = describe::declared_request(route, action);
            let verb = request::Requester::declared(
                route,
                action,
                context.nats,
                &shared.bodies,
                &shared.drain,
            )
            .map_err(unusable)?;
            let unhandled = unhandled().describe(move || operation.clone());
            Some(unhandled.answer(request::handle, verb))
        }
        _ => None,
    })
}
