//! What a bad header means to a caller.

use super::{Code, Problem};
use crate::translate::headers::{HEADERS_BYTES_MAX, HeaderError};

impl From<HeaderError> for Problem {
    fn from(error: HeaderError) -> Self {
        let detail = error.to_string();
        match error {
            HeaderError::NotAllowed { .. } => Self::new(Code::HeaderNotAllowed),
            HeaderError::Invalid { .. } => Self::new(Code::InvalidHeader),
            HeaderError::TooLarge => Self::new(Code::HeadersTooLarge).limit(HEADERS_BYTES_MAX),
        }
        .detail(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status() {
        let not_allowed = HeaderError::NotAllowed {
            name: "Nats-TTL".into(),
            instead: Some("the query parameter `ttl`"),
        };
        let problem = Problem::from(not_allowed);
        assert_eq!(problem.http_status(), 400);
        assert!(problem.sentence().contains("`ttl`"));
        assert_eq!(Problem::from(HeaderError::TooLarge).http_status(), 431);
        let invalid = HeaderError::Invalid {
            name: "a".into(),
            why: "is wrong",
        };
        assert_eq!(Problem::from(invalid).code(), Code::InvalidHeader);
    }
}
