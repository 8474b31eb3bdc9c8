//! `cors`: which web pages may call natsway.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::written;

/// Which web pages may call natsway from a browser. The `Origin` of a WebSocket is checked against the same list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Exact origins, such as `https://app.example.com`. None by default, so no page of another origin can use a visitor's network position.
    pub origins: Vec<Origin>,
}

/// A scheme, a host and a port where it is not the scheme's own, as a browser sends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// As a browser sends it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not an origin; write https://app.example.com, without a path");
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().ok_or_else(wrong)?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().to_ascii_lowercase();
        let plain = uri.path() == "/"
            && !text.ends_with('/')
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        if !plain || host.is_empty() || host.contains('*') {
            return Err(wrong());
        }
        // A browser leaves the scheme's own port out, so an origin written with it would never match.
        Ok(Self(match authority.port_u16() {
            Some(port) if (scheme, port) != ("http", 80) && (scheme, port) != ("https", 443) => {
                format!("{scheme}://{host}:{port}")
            }
            _ => format!("{scheme}://{host}"),
        }))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written!(
    Origin,
    "Origin",
    "an origin such as https://app.example.com",
    ["https://app.example.com"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        for (text, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://App.Example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), sent);
        }
        for text in [
            "*",
            "null",
            "example.com",
            "https://*.example.com",
            "https://a/",
            "https://a/b",
            "https://u@a",
            "",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
