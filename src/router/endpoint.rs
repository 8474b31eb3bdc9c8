//! The methods of one path. axum's own router answers HEAD wherever there is a GET, gives bare 405s,
//! and clones and boxes for every request.

use axum::body::Body;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method};
use http_body::Body as _;

use super::allowed;
use super::route::{Alternative, Route};
use super::stacks::Stacks;
use crate::layers::captures::Captures;
use crate::layers::{Answer, Request, Verb};
use crate::workers::Striped;

/// Picks the stack by the method.
#[derive(Debug)]
pub(super) struct Endpoint {
    captures: Striped<[Box<str>]>,
    known: Vec<(Method, Verb)>,
    otherwise: Verb,
}

impl Endpoint {
    pub(super) fn new(path: &str, routes: Vec<Route>, stacks: &Stacks<'_>) -> Self {
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
                known.push((Method::HEAD, without_body(stack.clone())));
            }
            known.push((method, stack));
        }
        let otherwise = stacks.method_not_allowed(&allow);
        Self {
            captures: Striped::new(captures_of(path)),
            known,
            otherwise,
        }
    }

    /// Where no path fits.
    pub(super) fn fallback(otherwise: Verb) -> Self {
        Self {
            captures: Striped::new([]),
            known: Vec::new(),
            otherwise,
        }
    }

    /// What the path captured, from the values as they stand in it.
    pub(super) fn captured<'p>(&self, values: impl Iterator<Item = &'p str>) -> Captures {
        Captures::decode(&self.captures, values)
    }

    /// The answer of the method that a request has.
    pub(super) fn answer(&self, request: Box<Request>) -> Answer {
        let mut known = self.known.iter();
        let known = known.find(|(method, _)| method == request.method());
        known
            .map_or(&self.otherwise, |(_, verb)| verb)
            .call(request)
    }
}

/// The names in `/a/{one}/{*rest}`.
fn captures_of(path: &str) -> Vec<Box<str>> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*').into())
        .collect()
}

/// `HEAD`: the same answer, of which only the length of the body is left.
fn without_body(verb: Verb) -> Verb {
    Verb::of_fn(move |request| {
        let answer = verb.call(request);
        Box::pin(async move {
            let mut response = answer.await;
            if let Some(length) = response.body().size_hint().exact() {
                let headers = response.headers_mut();
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            response.map(|_| Body::empty())
        })
    })
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
