//! An answer's body that was paid for from `memory.bodies`.

use axum::body::Body;
use bytes::Bytes;

struct Paid<D> {
    bytes: Bytes,
    // Given back with the last of the bytes: the parser takes a body from its owner at once, and holds
    // it for as long as the client does not read.
    _drawn: D,
}

impl<D> AsRef<[u8]> for Paid<D> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that holds what was drawn for it until it was written out, or the client went away.
pub(crate) fn paid(bytes: Bytes, drawn: impl Send + 'static) -> Body {
    Body::from(Bytes::from_owner(Paid {
        bytes,
        _drawn: drawn,
    }))
}
