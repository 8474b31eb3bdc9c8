//! A route as its verb describes it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::handler::Handler;
use http::Method;
use serde_json::Value;

use crate::config::Policy;
use crate::layers::{Answer, Request, Verb};
use crate::router::openapi::Description;
use crate::workers::Striped;

/// What timeouts and permits mean on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// The body is streamed to NATS; it may be silent for so long.
    Upload(Duration),
    /// The answer is a stream: a timeout ends at its head, a permit with its body.
    Stream,
}

impl Kind {
    /// In a word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Upload(_) => "upload",
            Self::Stream => "stream",
        }
    }
}

/// One method on one path.
#[derive(Debug)]
pub struct Route {
    /// Unique; the `route` label of every metric, and the `operationId`.
    pub(crate) name: Cow<'static, str>,
    pub(crate) method: Method,
    pub(crate) path: Cow<'static, str>,
    pub(crate) kind: Kind,
    pub(crate) policy: Policy,
    /// Whether `HEAD` is answered, too, as `GET` without its body.
    pub(crate) head: bool,
    pub(crate) operation: Description,
    pub(crate) verb: Verb,
    pub(crate) alternative: Option<Alternative>,
}

/// Another route on the same method and path, with limits of its own.
#[derive(Debug)]
pub(crate) struct Alternative {
    pub(crate) when: fn(&http::Request<Body>) -> bool,
    pub(crate) route: Box<Route>,
}

/// A route that has no handler yet.
#[derive(Debug)]
pub struct Unhandled {
    route: Route,
}

impl Route {
    /// A unary route; see [`Unhandled::kind`].
    #[expect(clippy::new_ret_no_self, reason = "a route without a handler is none")]
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        method: Method,
        path: impl Into<Cow<'static, str>>,
        policy: Policy,
    ) -> Unhandled {
        Unhandled {
            route: Self {
                name: name.into(),
                method,
                path: path.into(),
                kind: Kind::Unary,
                policy,
                head: false,
                operation: Description::default(),
                verb: Verb::of_fn(|_| Box::pin(std::future::pending())),
                alternative: None,
            },
        }
    }

    /// Leaves requests of which `when` is true to another route, whose path and method do not count.
    #[must_use]
    pub fn or_when(mut self, when: fn(&http::Request<Body>) -> bool, other: Self) -> Self {
        let route = Box::new(other);
        self.alternative = Some(Alternative { when, route });
        self
    }

    /// The route's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Unhandled {
    /// What timeouts and permits mean.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.route.kind = kind;
        self
    }

    /// Answers `HEAD` as well.
    #[must_use]
    pub fn with_head(mut self) -> Self {
        self.route.head = true;
        self
    }

    /// Its OpenAPI operation object, made when somebody reads the document. `operationId`, path parameters
    /// and the problem responses are added by [`super::openapi`].
    #[must_use]
    pub fn describe(mut self, operation: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.route.operation = Description(Some(Arc::new(operation)));
        self
    }

    /// What answers, without axum's taking the request apart and putting it together again.
    pub fn answer<S>(mut self, answer: fn(&Striped<S>, Box<Request>) -> Answer, state: S) -> Route
    where
        S: Send + Sync + 'static,
    {
        let state = Striped::new(state);
        self.route.verb = Verb::of_fn(move |request| answer(&state, request));
        self.route
    }

    /// What answers, as a handler of axum's.
    pub fn handler<H, T, S>(mut self, handler: H, state: S) -> Route
    where
        H: Handler<T, S, Future = Answer> + Sync,
        S: Clone + Send + Sync + 'static,
        T: 'static,
    {
        self.route.verb = Verb::of_handler(handler, state);
        self.route
    }
}
