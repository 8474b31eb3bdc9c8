//! An answer's body that was paid for from `memory.bodies`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::layers::memory::Drawn;

struct Paid {
    bytes: Bytes,
    // Given back when the body was written out, or when the client went away.
    _drawn: Drawn,
}

/// A body that holds what was drawn for it.
pub(in crate::api) fn paid(bytes: Bytes, drawn: Drawn) -> Body {
    Body::new(Paid {
        bytes,
        _drawn: drawn,
    })
}

impl http_body::Body for Paid {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
