//! The values of the captures in a route's path.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use crate::problem::{Code, Problem};

/// Percent-decoded values by name.
#[derive(Debug)]
pub struct Captures(RawPathParams);

impl Captures {
    /// Those of a request that came through the router.
    ///
    /// # Errors
    /// When one is not UTF-8.
    pub async fn of(parts: &mut Parts) -> Result<Self, Problem> {
        match RawPathParams::from_request_parts(parts, &()).await {
            Ok(captures) => Ok(Self(captures)),
            Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => {
                Err(Problem::new(Code::InvalidSubject).detail("the path is not UTF-8"))
            }
            Err(_) => Err(Problem::new(Code::Internal)),
        }
    }

    /// A capture's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut captures = self.0.iter();
        captures
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}
