//! The contents page: how a request comes to its handler, every layer on the way, and why in this order.
//!
//! # Registering a verb
//!
//! A verb's file has one function that describes it as a [`Route`], and [`crate::app`] collects them:
//!
//! ```text
//! pub fn route(settings: &config::Publish, session: Session) -> Route {
//!     Route::new("publish", Method::POST, "/v1/publish/{subject}", settings.policy())
//!         .describe(openapi::Operation::new("Publish a message").…)
//!         .handler(publish, session)
//! }
//! async fn publish(State(session): State<Session>, request: Request) -> Result<Response, Problem> { … }
//! ```
//!
//! The handler is any axum handler; its state is whatever the verb needs. A verb that has to be cheap takes
//! the request as the layers know it and answers by itself (`Unhandled::answer`). What a stack has done:
//!
//! - [`crate::layers::context::Context`] has the captures, the deadline (`timeout` in the query is parsed and within
//!   `timeout_max`) and the body, if the route holds it whole; for an axum handler it is an extension. On
//!   streaming routes there is the extension [`crate::layers::admission::StreamPermit`] (a WebSocket's task keeps a
//!   clone; a body holds it by itself);
//! - a streamed body is limited, timed and paid for: [`crate::layers::body::problem_of`] says what its errors mean;
//! - a returned [`Problem`](crate::problem::Problem) is counted, logged and written as JSON;
//! - streaming routes get their `Cache-Control` and `X-Accel-Buffering`.
//!
//! # Reloading
//!
//! [`Routes`] is swapped as a whole. A request in flight keeps the stack it came in by until it has ended,
//! with its timeout, its subject and its headers. What counts is found again: a rate and a breaker that are
//! set as before go on where they were, and the places of a route are the same places with another limit.

mod compression;
mod endpoint;
pub mod openapi;
mod route;
mod stacks;
mod standing;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::response::Response;
use http::Method;
use hyper::body::Incoming;

pub use route::{Kind, Route};
pub use stacks::Shared;
pub use standing::Kept;

use crate::layers::context;
use crate::layers::{Answer, Request, Verb};

use endpoint::Endpoint;
use stacks::Stacks;
use standing::Standing;

/// Two routes that cannot both be there. A checked configuration has none.
#[derive(Debug, thiserror::Error)]
#[error("the route {name} ({path}) cannot be added: {why}")]
pub struct RouteConflict {
    name: String,
    path: String,
    why: String,
}

impl RouteConflict {
    /// A route that cannot be built at all.
    #[must_use]
    pub fn unusable(name: &str, path: &str, why: &impl fmt::Display) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// The routes by their paths, and what they say of themselves.
pub struct Built {
    paths: matchit::Router<Endpoint>,
    elsewhere: Endpoint,
    openapi: Arc<openapi::Document>,
    standing: Standing,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").finish_non_exhaustive()
    }
}

impl Built {
    /// Puts each route into its stack, and all of them behind their paths.
    ///
    /// # Errors
    /// When two routes have the same method and path, or paths that cannot be told apart.
    pub fn new(routes: Vec<Route>, shared: &Shared) -> Result<Self, RouteConflict> {
        let openapi = Arc::new(openapi::Document::new(&routes));
        let stacks = Stacks::new(shared);
        let mut paths = matchit::Router::new();
        for (path, methods) in by_path(routes)? {
            let name = methods[0].name.to_string();
            let endpoint = Endpoint::new(&path, methods, &stacks);
            paths
                .insert(path.clone(), endpoint)
                .map_err(|error| RouteConflict::unusable(&name, &path, &error))?;
        }
        Ok(Self {
            paths,
            elsewhere: Endpoint::fallback(stacks.not_found()),
            openapi,
            standing: stacks.into_standing(),
        })
    }

    /// The answer of the route that a request is for.
    #[must_use]
    pub fn answer(&self, mut request: Box<Request>) -> Answer {
        let Ok(found) = self.paths.at(request.uri().path()) else {
            return self.elsewhere.answer(request);
        };
        let endpoint = found.value;
        if !found.params.is_empty() {
            let captures = endpoint.captured(found.params.iter().map(|(_, value)| value));
            request.context.captures = captures;
        }
        endpoint.answer(request)
    }

    /// The OpenAPI document of the routes.
    #[must_use]
    pub const fn openapi(&self) -> &Arc<openapi::Document> {
        &self.openapi
    }
}

fn by_path(routes: Vec<Route>) -> Result<BTreeMap<String, Vec<Route>>, RouteConflict> {
    let mut paths: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    for route in routes {
        let methods = paths.entry(route.path.to_string()).or_default();
        if let Some(other) = methods.iter().find(|other| other.method == route.method) {
            return Err(RouteConflict {
                name: route.name.to_string(),
                path: route.path.to_string(),
                why: format!("{} has the same method and path", other.name),
            });
        }
        methods.push(route);
    }
    Ok(paths)
}

/// The routes in force, as the service of the data listeners.
#[derive(Clone, Debug)]
pub struct Routes {
    current: Arc<ArcSwap<Built>>,
}

impl Routes {
    /// These, until they are replaced.
    #[must_use]
    pub fn new(built: Built) -> Self {
        built.standing.enter(None);
        Self {
            current: Arc::new(ArcSwap::from_pointee(built)),
        }
    }

    /// Takes these from the next request on.
    pub fn replace(&self, built: Built) {
        built.standing.enter(Some(&self.current.load().standing));
        self.current.store(Arc::new(built));
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Arc<Built> {
        self.current.load_full()
    }
}

impl Routes {
    /// The answer of the routes in force.
    #[must_use]
    pub fn answer(&self, request: http::Request<Incoming>, context: context::Context) -> Answering {
        let http = request.map(Body::new);
        let request = Box::new(Request { http, context });
        Answering(self.current.load().answer(request))
    }
}

/// An answer as a server takes it.
pub struct Answering(Answer);

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answering").finish()
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(ready!(self.0.as_mut().poll(cx))))
    }
}

/// The methods of a path, as the `Allow` header and preflights say them.
fn allowed(methods: &[(Method, Verb)]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests;
