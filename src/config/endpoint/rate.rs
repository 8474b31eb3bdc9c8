//! How many requests are taken in a span of time, and who shares them.

use std::{fmt, str::FromStr, time::Duration};

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{errors::Findings, text::written};

/// How many requests are taken in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Rate")]
pub struct Rate {
    /// The sustained rate, such as `200/s`, `30/m` or `1000/h`.
    pub limit: Quota,
    /// How many may come at once after a pause; by default as many as `limit` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Who shares the rate: `route` (everybody), `client_ip`, or `header:<name>` (each value of a header).
    #[serde(default)]
    pub key: RateKey,
}

impl Rate {
    /// How many may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.limit.count)
    }

    pub(in crate::config) fn check(&self, findings: &mut Findings) {
        findings.require(self.burst != Some(0), "burst", "must be at least 1");
    }
}

/// So many in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many, at least one.
    pub count: u32,
    /// In which span.
    pub per: Duration,
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate; write 200/s, 30/m or 1000/h");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        match count.trim().parse() {
            Ok(count) if count > 0 => Ok(Self {
                count,
                per: Duration::from_secs(seconds),
            }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

written!(
    Quota,
    "Quota",
    "a rate such as 200/s, 30/m or 1000/h",
    ["200/s", "30/m"]
);

/// Who shares a rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateKey {
    /// All requests of the route together.
    #[default]
    Route,
    /// Each address the connection comes from.
    ClientIp,
    /// Each value of a request header; requests without it share one.
    Header(HeaderName),
}

impl FromStr for RateKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "route" => Ok(Self::Route),
            "client_ip" => Ok(Self::ClientIp),
            _ => text
                .strip_prefix("header:")
                .and_then(|name| HeaderName::from_str(name.trim()).ok())
                .map(Self::Header)
                .ok_or_else(|| format!("`{text}` is neither route, client_ip nor header:<name>")),
        }
    }
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route => f.write_str("route"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

written!(
    RateKey,
    "RateKey",
    "route, client_ip or header:<name>",
    ["route", "client_ip", "header:x-tenant"]
);
