//! Lets the pages of the listed origins read answers. Outside the guard, so that its problems, and every
//! other, reach the page; what is not listed is the guard's to refuse.
//!
//! No credentials: natsway knows no cookies, and `Access-Control-Allow-Credentials` would lend a
//! visitor's to every page in the list. That also makes `*` legal for the headers a page may read.

use std::collections::HashSet;
use std::sync::Arc;

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tower::Layer;

use super::{Handle, Request};
use crate::config::Cors;

/// The exact origins whose pages may call.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<HashSet<Box<[u8]>>>);

impl Origins {
    /// The list of the configuration.
    #[must_use]
    pub fn new(cors: &Cors) -> Self {
        let origins = cors.origins.iter();
        Self(Arc::new(
            origins
                .map(|origin| origin.as_str().as_bytes().into())
                .collect(),
        ))
    }

    /// Whether nobody is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this very origin is listed; never so for `null`, which many pages share.
    #[must_use]
    pub fn allow(&self, origin: &[u8]) -> bool {
        self.0.contains(origin)
    }
}

/// The layer.
pub fn layer<N: Handle>(
    origins: &Origins,
    methods: HeaderValue,
) -> impl Layer<N, Service = WithCors<N>> {
    let origins = origins.clone();
    tower::layer::layer_fn(move |next| WithCors {
        next,
        origins: origins.clone(),
        methods: methods.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct WithCors<N> {
    next: N,
    origins: Origins,
    methods: HeaderValue,
}

impl<N: Handle> Handle for WithCors<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        if self.origins.is_empty() {
            return self.next.handle(request).await;
        }
        let origin = request.headers().get(ORIGIN);
        let allowed = origin.filter(|origin| self.origins.allow(origin.as_bytes()));
        // Boxed, so that who is asked by no page needs no room for it.
        let allowed = allowed.cloned().map(Box::new);
        let mut response = match &allowed {
            Some(_) if is_preflight(&request) => self.preflight(request.headers()),
            _ => self.next.handle(request).await,
        };
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, *origin);
            let all = HeaderValue::from_static("*");
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, all);
        }
        response
    }
}

impl<N> WithCors<N> {
    /// A listed page may send any header: `NatsH-…` names are its own, so they cannot be listed.
    fn preflight(&self, request: &HeaderMap) -> Response {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        let varies = "Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(VARY, HeaderValue::from_static(varies));
        response
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
