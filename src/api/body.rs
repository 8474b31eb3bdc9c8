//! A body that becomes one payload.

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;

use crate::layers::body::collect;
use crate::nats::Nats;
use crate::problem::{Code, Problem};
use crate::translate::headers::wire_len;

/// Reads a body whole. The layers limit it to what a route takes and the process has room for; here
/// the headers that go with it are counted as well, because the server counts them. What was declared
/// is refused before it is read.
///
/// # Errors
/// When it is too large, too slow or cut short.
pub async fn read(
    body: Body,
    headers: Option<&async_nats::HeaderMap>,
    nats: &Nats,
) -> Result<Bytes, Problem> {
    let limit = nats.max_payload();
    let room = limit.saturating_sub(wire_len(headers));
    let too_large = || Problem::new(Code::PayloadTooLarge).limit(limit);
    if body.size_hint().lower() > room as u64 {
        return Err(too_large());
    }
    let payload = collect(body).await?;
    if payload.len() > room {
        return Err(too_large());
    }
    Ok(payload)
}
