//! A body that becomes one payload.

use bytes::Bytes;

use crate::nats::Nats;
use crate::problem::{Code, Problem};
use crate::translate::headers::wire_len;

/// The body that the layers have read, limited to what the route takes and the process has room for; here
/// the headers that go with it are counted as well, because the server counts them.
///
/// # Errors
/// When it is too large.
pub fn payload(
    payload: Bytes,
    headers: Option<&async_nats::HeaderMap>,
    nats: &Nats,
) -> Result<Bytes, Problem> {
    let limit = nats.max_payload();
    match payload.len() > limit.saturating_sub(wire_len(headers)) {
        true => Err(Problem::new(Code::PayloadTooLarge).limit(limit)),
        false => Ok(payload),
    }
}
