//! What a bad line of a batch means to a caller.

use super::{Code, Problem};
use crate::translate::batch_line::{DataError, LineError};

impl From<LineError> for Problem {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Json(detail) => Self::new(Code::InvalidBody).detail(detail),
            LineError::Data(error) => error.into(),
            LineError::Subject(error) => error.into(),
            LineError::Header(error) => error.into(),
        }
    }
}

impl From<DataError> for Problem {
    fn from(error: DataError) -> Self {
        Self::new(Code::InvalidBody).detail(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::translate::ClientContext;
    use crate::translate::batch_line::decode;

    #[test]
    fn each_line_has_its_own_code() {
        for (line, code) in [
            ("{", "invalid-body"),
            (
                r#"{"subject":"a","data":"?","encoding":"base64"}"#,
                "invalid-body",
            ),
            (r#"{"subject":"a.>"}"#, "wildcard-not-allowed"),
            (
                r#"{"subject":"a","headers":{"Status":"1"}}"#,
                "header-not-allowed",
            ),
        ] {
            let error = decode(
                &Bytes::from_static(line.as_bytes()),
                None,
                ClientContext::Kept,
            )
            .unwrap_err();
            assert_eq!(Problem::from(error).code().as_str(), code, "{line}");
        }
    }
}
