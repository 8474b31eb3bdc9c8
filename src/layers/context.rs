//! What natsway knows of a request beside what the client sent.
//!
//! One extension for all of it: each of their own would cost a request two allocations, and a lookup
//! for everybody who asks.

use std::sync::Arc;

use axum::extract::Request;
use bytes::Bytes;
use http::Extensions;

use super::captures::Captures;
use super::deadline::Deadline;
use super::peer::Peer;
use super::request_id::RequestId;

/// The extension. The server makes it, the router and the layers fill it in on the way down.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Where the request came from; none where no listener is.
    pub peer: Option<Arc<Peer>>,
    /// What it is called.
    pub id: Option<RequestId>,
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
    /// The request's own; none of what it could say if there is no such extension.
    #[must_use]
    pub fn of(request: &Request) -> &Self {
        Self::in_parts(request.extensions())
    }

    /// As [`Self::of`].
    #[must_use]
    pub fn in_parts(extensions: &Extensions) -> &Self {
        static NOTHING: Context = Context {
            peer: None,
            id: None,
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

    /// The request's own, to be filled in.
    pub fn of_mut(request: &mut Request) -> &mut Self {
        request.extensions_mut().get_or_insert_default()
    }
}
