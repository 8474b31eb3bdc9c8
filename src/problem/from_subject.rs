//! What a bad subject or name means to a caller.

use super::{Code, Problem};
use crate::subject::{NameError, SubjectError};

impl From<SubjectError> for Problem {
    fn from(error: SubjectError) -> Self {
        let detail = error.to_string();
        match error {
            SubjectError::TooLong { limit } => Self::new(Code::SubjectTooLong).limit(limit),
            SubjectError::Wildcard => Self::new(Code::WildcardNotAllowed),
            SubjectError::Empty
            | SubjectError::Illegal { .. }
            | SubjectError::EmptyToken
            | SubjectError::EncodedTwice
            | SubjectError::Capture { .. } => Self::new(Code::InvalidSubject),
        }
        .detail(detail)
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        let problem = Self::new(Code::InvalidParameter).detail(error.to_string());
        match error {
            NameError::TooLong { limit } => problem.limit(limit),
            NameError::Empty | NameError::Illegal { .. } => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{Name, Subject};

    #[test]
    fn each_error_has_its_code() {
        for (subject, code) in [
            ("", "invalid-subject"),
            ("a b", "invalid-subject"),
            ("a..b", "invalid-subject"),
            ("a.*", "wildcard-not-allowed"),
        ] {
            let problem = Problem::from(Subject::parse(subject).unwrap_err());
            assert_eq!(problem.code().as_str(), code, "{subject}");
            assert_eq!(problem.http_status(), 400);
        }
        let problem = Problem::from(Subject::parse(&"x".repeat(513)).unwrap_err());
        assert_eq!(problem.http_status(), 414);
        assert_eq!(problem.to_json(None)["limit"], 512);
        let problem = Problem::from(Name::parse("a.b").unwrap_err());
        assert_eq!(problem.code(), Code::InvalidParameter);
    }
}
