//! What a bad ack token means to a caller.

use super::{Code, Problem};
use crate::translate::ack_token::TokenError;

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::new(match error {
            TokenError::Invalid => Code::AckTokenInvalid,
            TokenError::Expired => Code::AckTokenExpired,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status() {
        assert_eq!(Problem::from(TokenError::Invalid).http_status(), 403);
        assert_eq!(Problem::from(TokenError::Expired).http_status(), 410);
    }
}
