//! What natsway knows of a request beside what the client sent, and both together.
//!
//! It goes beside the request and not in its extensions, which would cost four allocations, and a lookup
//! for everybody who asks. Only who is handed a request as axum knows it finds it there.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Extensions;
use tokio::time::Instant;

use super::captures::Captures;
use super::deadline::Deadline;
use super::peer::Peer;
use super::request_id::RequestId;

/// The server makes it, the router and the layers fill it in on the way down.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Where the request came from; none where no listener is.
    pub peer: Option<Arc<Peer>>,
    /// What it is called.
    pub id: Option<RequestId>,
    /// When its head was there, by the connection that read it or the first layer that asked a clock.
    pub began: Option<Instant>,
    /// What its path captured.
    pub captures: Captures,
    /// When its answer must be there.
    pub deadline: Option<Deadline>,
    /// Its body, where the route holds it whole: read before the request took a place.
    pub body: Bytes,
    /// The connection polls its requests when the grace of the shutdown is over, so that they need not
    /// wait for that themselves.
    pub is_polled_at_the_end: bool,
}

impl Context {
    /// Of a request as axum knows it; none of what it could say if there is no such extension.
    #[must_use]
    pub fn in_extensions(extensions: &Extensions) -> &Self {
        static NOTHING: Context = Context {
            peer: None,
            id: None,
            began: None,
            captures: Captures::NONE,
            deadline: None,
            body: Bytes::new(),
            is_polled_at_the_end: false,
        };
        extensions.get().unwrap_or(&NOTHING)
    }

    /// Takes the body out of it; an empty one where there is none.
    #[must_use]
    pub fn take_body(extensions: &mut Extensions) -> Bytes {
        let own = extensions.get_mut::<Self>();
        own.map(|own| std::mem::take(&mut own.body))
            .unwrap_or_default()
    }
}

/// A request on its way through the layers.
#[derive(Debug, Default)]
pub struct Request {
    /// As the client sent it.
    pub http: http::Request<Body>,
    /// What natsway knows of it.
    pub context: Context,
}

impl Request {
    /// The deadline. Every stack sets one.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline::or_default(self.context.deadline)
    }

    /// As axum knows it, with the context as an extension.
    #[must_use]
    pub fn into_http(self) -> http::Request<Body> {
        let Self { mut http, context } = self;
        http.extensions_mut().insert(context);
        http
    }
}

impl Deref for Request {
    type Target = http::Request<Body>;

    fn deref(&self) -> &Self::Target {
        &self.http
    }
}

impl DerefMut for Request {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.http
    }
}

impl From<http::Request<Body>> for Request {
    /// With the context that stands in its extensions.
    fn from(mut http: http::Request<Body>) -> Self {
        let context = http.extensions_mut().remove().unwrap_or_default();
        Self { http, context }
    }
}

impl From<http::Request<Body>> for Box<Request> {
    fn from(http: http::Request<Body>) -> Self {
        Self::new(http.into())
    }
}
