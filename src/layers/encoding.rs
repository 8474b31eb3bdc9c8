//! A body that is encoded is refused: the payload goes to NATS byte for byte, and decompressing for a
//! client is how small requests become large ones.

use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tower::Layer;

use super::{Handle, Request};
use crate::problem::{Code, Problem};

/// The layer.
pub fn layer<N: Handle>() -> impl Layer<N, Service = IdentityOnly<N>> {
    tower::layer::layer_fn(|next| IdentityOnly { next })
}

/// See [`layer`].
#[derive(Debug)]
pub struct IdentityOnly<N> {
    next: N,
}

impl<N: Handle> Handle for IdentityOnly<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        if is_encoded(request.headers()) {
            return Problem::new(Code::UnsupportedMediaType).into_response();
        }
        self.next.handle(request).await
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| {
            let coding = coding.trim_ascii();
            !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identity_is_taken() {
        for (value, encoded) in [
            ("identity", false),
            ("Identity", false),
            ("", false),
            ("gzip", true),
            ("identity, gzip", true),
            ("br", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, value.parse().unwrap());
            assert_eq!(is_encoded(&headers), encoded, "{value}");
        }
    }
}
