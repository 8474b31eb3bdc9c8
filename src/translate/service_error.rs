//! Errors that a service reports in its reply (`Nats-Service-Error-Code`), as HTTP statuses.

use async_nats::header::{HeaderMap, HeaderName};
use http::StatusCode;

const CODE: HeaderName = HeaderName::from_static("Nats-Service-Error-Code");
const DESCRIPTION: HeaderName = HeaderName::from_static("Nats-Service-Error");

/// A reply that is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceError<'a> {
    /// The status for the client.
    pub status: StatusCode,
    /// The code as the service wrote it.
    pub code: &'a str,
    /// The service's description; empty where it gave none.
    pub description: &'a str,
}

/// The error in a reply's headers, if it is one.
#[must_use]
pub fn in_reply(headers: Option<&HeaderMap>) -> Option<ServiceError<'_>> {
    let headers = headers?;
    let code = headers.get(CODE)?.as_str();
    Some(ServiceError {
        status: status(code),
        code,
        description: headers.get(DESCRIPTION).map_or("", |text| text.as_str()),
    })
}

/// Some statuses make an HTTP client act on its connection to natsway: ask for a password (401, 407),
/// or send the request again (408, 421). A service behind natsway does not decide that.
fn status(code: &str) -> StatusCode {
    let is_number = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    match code.parse() {
        Ok(code @ 400..=599_u16) if is_number && !matches!(code, 401 | 407 | 408 | 421) => {
            StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
        }
        _ => StatusCode::BAD_GATEWAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (code, expected) in [
            ("400", 400),
            ("404", 404),
            ("422", 422),
            ("499", 499),
            ("500", 500),
            ("503", 503),
            ("599", 599),
            ("401", 502),
            ("407", 502),
            ("408", 502),
            ("421", 502),
            ("200", 502),
            ("302", 502),
            ("399", 502),
            ("600", 502),
            ("0404", 502),
            ("+404", 502),
            ("-1", 502),
            ("oops", 502),
            ("", 502),
        ] {
            assert_eq!(status(code).as_u16(), expected, "{code}");
        }
    }

    #[test]
    fn a_reply_without_the_code_is_no_error() {
        assert_eq!(in_reply(None), None);
        let mut headers = HeaderMap::new();
        headers.append("Nats-Service-Error", "sold out");
        assert_eq!(in_reply(Some(&headers)), None);
        headers.append("Nats-Service-Error-Code", "409");
        let error = in_reply(Some(&headers)).unwrap();
        assert_eq!((error.status.as_u16(), error.code), (409, "409"));
        assert_eq!(error.description, "sold out");
    }
}
