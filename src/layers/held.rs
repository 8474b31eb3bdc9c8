//! A body that holds something until it ends: a permit, a count, a log line.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

/// A body and its guard, which is dropped with it: when it was written out, or when the client went away.
pub(crate) struct Held<G> {
    body: Body,
    _guard: G,
}

impl<G> Held<G> {
    pub(crate) const fn new(body: Body, guard: G) -> Self {
        Self {
            body,
            _guard: guard,
        }
    }
}

/// Whether the answer's body is there as a whole, to be written without anybody's help.
pub(super) fn is_complete(response: &Response) -> bool {
    response.body().size_hint().exact().is_some()
}

/// Keeps the guard until the answer's body has ended. A body that is complete already needs no guard,
/// and no allocation.
pub(super) fn until_end<G: Send + Unpin + 'static>(response: Response, guard: G) -> Response {
    if is_complete(&response) {
        return response;
    }
    response.map(|body| Body::new(Held::new(body, guard)))
}

impl<G: Unpin> http_body::Body for Held<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
