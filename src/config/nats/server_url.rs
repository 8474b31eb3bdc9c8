//! The URL of a NATS server, with its user information out of sight.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;

use super::Auth;
use crate::config::{secret::Secret, text::written};

const NOT_A_URL: &str = "not a NATS URL: write nats://host:4222 or tls://host:4222";

/// The URL of a NATS server. What is shown, printed and passed on never holds user information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    url: String,
    credentials: Option<Auth>,
}

impl ServerUrl {
    /// The server on this machine.
    pub(super) fn local() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            credentials: None,
        }
    }

    /// The URL without user information.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Takes the user information that came with the URL.
    pub(super) fn take_credentials(&mut self) -> Option<Auth> {
        self.credentials.take()
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself stays out of the errors: it may hold a password.
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .unwrap_or(("nats", text.trim()));
        if !matches!(scheme, "nats" | "tls") {
            return Err(NOT_A_URL.to_owned());
        }
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((user_information, host)) => (Some(credentials(user_information)), host),
            None => (None, rest),
        };
        let url = format!("{scheme}://{}", host.trim_end_matches('/'));
        let parsed = async_nats::ServerAddr::from_str(&url).map(async_nats::ServerAddr::into_inner);
        match parsed {
            Ok(parsed) if parsed.has_host() && matches!(parsed.path(), "" | "/") && bare(&url) => {
                Ok(Self { url, credentials })
            }
            _ => Err(NOT_A_URL.to_owned()),
        }
    }
}

fn bare(url: &str) -> bool {
    !url.contains(['?', '#'])
}

fn credentials(user_information: &str) -> Auth {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match user_information.split_once(':') {
        Some((user, password)) => Auth {
            user: Some(decode(user)),
            password: Some(Secret::new(decode(password))),
            ..Auth::default()
        },
        None => Auth {
            token: Some(Secret::new(decode(user_information))),
            ..Auth::default()
        },
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

written!(
    ServerUrl,
    "ServerUrl",
    "the URL of a NATS server",
    ["nats://127.0.0.1:4222", "tls://nats.example.com:4222"]
);
