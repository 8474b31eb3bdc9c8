//! What surrounds every handler. Each layer is one file with its reason; the order is in
//! [`crate::router`], listed once.
//!
//! A layer is a [`tower::Layer`], composed with [`tower::ServiceBuilder`]. What it wraps is a
//! [`Handle`] instead of a [`tower::Service`], for one reason: a `Service` is called by `&mut self`, so
//! every request clones the whole stack, and its future must have a name, so every `async` layer boxes.
//! A `Handle` is called by `&self` and its future is the compiler's: ten layers are one state machine,
//! allocated once a request, and an idle layer costs a branch.

pub mod access_log;
pub mod admission;
pub mod body;
pub mod breaker;
pub mod captures;
pub mod context;
pub mod cors;
pub mod deadline;
pub mod encoding;
pub mod guard;
pub(crate) mod held;
pub mod kept;
pub mod memory;
pub(crate) mod paid;
pub mod panic;
pub mod peer;
mod problem_event;
pub mod rate;
pub mod received;
pub mod request_id;
pub mod trace;

use std::pin::Pin;
use std::sync::Arc;

use axum::handler::Handler;
use axum::response::Response;

pub use context::Request;

use crate::workers::Striped;

/// An answer that is on its way.
pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Something that answers requests.
pub trait Handle: Send + Sync + 'static {
    /// Answers one. It is boxed because each layer on its way moves it, and has room for it.
    fn handle(&self, request: Box<Request>) -> impl Future<Output = Response> + Send;
}

/// Something that answers requests, whichever it is.
#[derive(Clone)]
pub struct Verb(Arc<dyn Fn(Box<Request>) -> Answer + Send + Sync>);

impl std::fmt::Debug for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verb")
    }
}

impl Verb {
    /// An axum handler with its state. The handler's own future is already boxed by axum; it is not
    /// boxed again.
    pub fn of_handler<H, T, S>(handler: H, state: S) -> Self
    where
        H: Handler<T, S, Future = Answer> + Sync,
        S: Clone + Send + Sync + 'static,
        T: 'static,
    {
        Self(Arc::new(move |request| {
            handler.clone().call(request.into_http(), state.clone())
        }))
    }

    /// A whole stack.
    pub fn of_stack(stack: impl Handle) -> Self {
        let stack = Striped::new(stack);
        Self(Arc::new(move |request| {
            let stack = stack.own();
            Box::pin(async move { stack.handle(request).await })
        }))
    }

    /// A function from request to answer.
    pub fn of_fn(function: impl Fn(Box<Request>) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    /// Answers one request.
    pub fn call(&self, request: Box<Request>) -> Answer {
        (self.0)(request)
    }
}

impl Handle for Verb {
    fn handle(&self, request: Box<Request>) -> impl Future<Output = Response> + Send {
        self.call(request)
    }
}
