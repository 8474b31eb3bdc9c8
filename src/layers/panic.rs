//! A panic becomes 500 `internal`. Inside logs and metrics, so that it is counted like any failure, and
//! outside everything else. The panic hook has logged where it happened; the answer says nothing of it.

use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::Layer;

use super::request_id::RequestId;
use super::{Handle, Request};
use crate::problem::{Code, Problem};

/// The layer.
pub fn layer<N: Handle>() -> impl Layer<N, Service = CatchPanic<N>> {
    tower::layer::layer_fn(|next| CatchPanic { next })
}

/// See [`layer`].
#[derive(Debug)]
pub struct CatchPanic<N> {
    next: N,
}

impl<N: Handle> Handle for CatchPanic<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        let id = request.context.id.clone();
        // Unwind safe: what a panicking request leaves behind is its own, and all that requests share
        // is atomics and locks that do not poison.
        match AssertUnwindSafe(self.next.handle(request))
            .catch_unwind()
            .await
        {
            Ok(response) => response,
            Err(_) => {
                let request_id = id.as_ref().map(RequestId::to_text);
                let request_id = request_id.as_deref();
                tracing::error!(request_id, "a request panicked and was answered 500");
                Problem::new(Code::Internal).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Verb;
    use axum::body::Body;

    #[tokio::test]
    async fn a_panic_is_an_internal_problem() {
        let stack = layer().layer(Verb::of_fn(|_| Box::pin(async { panic!("on purpose") })));
        let response = stack.handle(http::Request::new(Body::empty()).into()).await;
        let problem = response.extensions().get::<Problem>().unwrap();
        assert_eq!(problem.code(), Code::Internal);
    }
}
