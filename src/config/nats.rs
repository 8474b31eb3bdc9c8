//! `nats`: how natsway reaches NATS.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    endpoint::Buffer,
    errors::Findings,
    schema,
    text::{self, DurationText},
};
use crate::subject::Subject;

mod auth;
mod server_url;

pub use auth::{Auth, AuthMethod};
pub use server_url::ServerUrl;

/// How natsway reaches NATS. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
    /// Servers of one cluster, tried in turn: `nats://host:4222`, or `tls://…`. User information in a URL is taken as `auth`. `NATS_URL` is honoured.
    pub servers: Vec<ServerUrl>,
    /// The name NATS shows for natsway's connections.
    pub name: String,
    /// Connections for publishing and requests. A subject always uses the same one, so its order holds. One carries some 100,000 messages a second; more help only when its CPU core is full.
    pub connections: usize,
    /// Who natsway is for NATS.
    pub auth: Auth,
    /// TLS towards NATS.
    pub tls: Tls,
    /// How long a connection may take to be made, the handshake included.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub connect_timeout: Duration,
    /// How often an idle connection is asked whether it lives. A half-open one is noticed within three of these; 5 s keeps that well under the deadlines clients use.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub ping_interval: Duration,
    /// Pauses between attempts to connect.
    pub reconnect: Reconnect,
    /// The prefix of natsway's inboxes; a random token is added. The NATS user needs to publish and subscribe on `<prefix>.>`.
    pub inbox_prefix: String,
    /// Messages waiting to be sent on one connection; when full, a request is answered 503 `overloaded`. The default is what one connection sends in a fraction of a second.
    #[schemars(transform = schema::defaults_are_merged)]
    pub buffer: Buffer,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            servers: vec![ServerUrl::local()],
            name: "natsway".to_owned(),
            connections: 1,
            auth: Auth::default(),
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(5),
            reconnect: Reconnect::default(),
            inbox_prefix: "_INBOX_natsway".to_owned(),
            buffer: Buffer {
                messages: 8192,
                bytes: 32 << 20,
            },
        }
    }
}

/// More connections than this only divide the same cores.
const CONNECTIONS_MAX: usize = 64;

impl Nats {
    pub(super) fn check(&self, findings: &mut Findings) {
        findings.require(
            !self.servers.is_empty(),
            "servers",
            "needs at least one server",
        );
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            findings.wrong_at(
                "connections",
                format!("must be between 1 and {CONNECTIONS_MAX}"),
            );
        }
        let prefix = Subject::parse(&self.inbox_prefix);
        findings.require(
            prefix.is_ok(),
            "inbox_prefix",
            "must be a legal subject without wildcards",
        );
        findings.require(
            !self.connect_timeout.is_zero(),
            "connect_timeout",
            "must be longer than 0",
        );
        findings.require(
            !self.ping_interval.is_zero(),
            "ping_interval",
            "must be longer than 0",
        );
        findings.under("auth", |findings| self.auth.check(findings));
        findings.under("tls", |findings| self.tls.check(findings));
        findings.under("reconnect", |findings| self.reconnect.check(findings));
        findings.under("buffer", |findings| self.buffer.check(findings));
    }

    /// Moves user information out of the server URLs, where it would be printed, to `auth`, where it is not.
    pub(super) fn move_credentials(&mut self, findings: &mut Findings) {
        for (index, server) in self.servers.iter_mut().enumerate() {
            let Some(given) = server.take_credentials() else {
                continue;
            };
            if self.auth == Auth::default() {
                self.auth = given;
            } else if self.auth != given {
                findings.under("nats", |findings| {
                    findings.under("servers", |findings| {
                        findings.entry(index, |findings| {
                            findings.wrong("has user information that differs from `nats.auth` or another server's");
                        });
                    });
                });
            }
        }
    }
}

/// TLS towards NATS. Servers that ask for TLS get it in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whether a connection without TLS is refused.
    pub required: bool,
    /// Whether the TLS handshake comes before NATS's greeting, as the server's `handshake_first` asks.
    pub first: bool,
    /// PEM file of the authorities to trust in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of natsway's own certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl Tls {
    fn check(&self, findings: &mut Findings) {
        let pair = self.cert_file.is_some() == self.key_file.is_some();
        findings.require(pair, "key_file", "goes together with `cert_file`");
        for (key, file) in [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ] {
            findings.readable(key, file.as_deref());
        }
    }
}

/// Pauses between attempts to connect, with full jitter, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reconnect {
    /// The first pause; doubled after each attempt in vain.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub min: Duration,
    /// The longest pause. Service is back within 2 s of NATS because of it.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub max: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(50),
            max: Duration::from_millis(1500),
        }
    }
}

impl Reconnect {
    fn check(self, findings: &mut Findings) {
        findings.require(!self.min.is_zero(), "min", "must be longer than 0");
        findings.require(self.max >= self.min, "max", "must be at least `min`");
    }
}
