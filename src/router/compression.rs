//! Compressed answers, for clients that ask, where `http.compression` is set. Around the whole stack,
//! because problems become JSON in its outermost layer. Never on what streams: a compressor gathers, and
//! a stream is there to be read as it comes.

use axum::body::Body;
use tower::{Layer, Service};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

use crate::layers::Verb;

/// Below this the header costs more than is saved.
const WORTH_IT: u64 = 256;

/// The same stack, compressing.
pub(super) fn around(stack: Verb) -> Verb {
    let layer = CompressionLayer::new().gzip(true).zstd(true).compress_when(
        SizeAbove::new(WORTH_IT)
            .and(NotForContentType::const_new("application/x-ndjson"))
            .and(NotForContentType::SSE),
    );
    let service = layer.layer(tower::service_fn(move |request: http::Request<Body>| {
        let answer = stack.call(request.into());
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    }));
    Verb::of_fn(move |request| {
        let answer = service.clone().call(request.into_http());
        Box::pin(async move {
            match answer.await {
                Ok(response) => response.map(Body::new),
                Err(never) => match never {},
            }
        })
    })
}
