//! The methods of one path. axum's own method router answers HEAD wherever there is a GET, and bare 405s.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use http::Method;
use tower::Service;

use super::allowed;
use super::route::{Alternative, Route};
use super::stacks::Stacks;
use crate::layers::Verb;

/// Picks the stack by the method.
#[derive(Clone, Debug)]
pub(super) struct Endpoint(Arc<Methods>);

#[derive(Debug)]
struct Methods {
    known: Vec<(Method, Verb)>,
    otherwise: Verb,
}

impl Endpoint {
    pub(super) fn new(routes: Vec<Route>, stacks: &Stacks<'_>) -> Self {
        let mut methods: Vec<(Method, Verb)> = Vec::new();
        for route in &routes {
            methods.push((route.method.clone(), route.verb.clone()));
            if route.head {
                methods.push((Method::HEAD, route.verb.clone()));
            }
        }
        let allow = allowed(&methods);
        let mut known = Vec::with_capacity(methods.len());
        for route in routes {
            let (method, head) = (route.method.clone(), route.head);
            let stack = around(route, stacks, &allow);
            if head {
                known.push((Method::HEAD, stack.clone()));
            }
            known.push((method, stack));
        }
        let otherwise = stacks.method_not_allowed(&allow);
        Self(Arc::new(Methods { known, otherwise }))
    }

    /// Where no path fits.
    pub(super) fn fallback(otherwise: Verb) -> Self {
        Self(Arc::new(Methods {
            known: Vec::new(),
            otherwise,
        }))
    }
}

/// A route's stack, and before it, where there is one, the choice of the other.
fn around(mut route: Route, stacks: &Stacks<'_>, allow: &str) -> Verb {
    let alternative = route.alternative.take();
    let usual = stacks.around(route, allow);
    let Some(Alternative { when, route }) = alternative else {
        return usual;
    };
    let other = stacks.around(*route, allow);
    Verb::of_fn(move |request| match when(&request) {
        true => other.call(request),
        false => usual.call(request),
    })
}

impl Service<Request> for Endpoint {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let methods = &self.0;
        let known = methods
            .known
            .iter()
            .find(|(method, _)| method == request.method());
        let verb = known.map_or(&methods.otherwise, |(_, verb)| verb);
        let answer = verb.call(request);
        Box::pin(async move { Ok(answer.await) })
    }
}
