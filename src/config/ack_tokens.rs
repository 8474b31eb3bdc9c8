//! `ack_tokens`: what signs the tokens messages are acknowledged with.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    errors::Findings,
    secret::{Secret, SecretSource},
    text::{self, DurationText},
};

/// What signs the tokens messages are acknowledged with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AckTokens {
    /// File with one key a line, `<id>:<64 hex digits>`; the first signs, all verify. It is read at start and with each reload, so that a changed file needs one of these. Without one a random key is made at start: tokens then work neither on another replica nor after a restart, and the log says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The same text directly; best given by the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Secret>,
    /// How long a token is good for. An hour outlasts any usual `ack_wait`, and bounds what a leaked one is worth.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub ttl: Duration,
}

impl Default for AckTokens {
    fn default() -> Self {
        Self {
            key_file: None,
            keys: None,
            ttl: Duration::from_secs(3600),
        }
    }
}

impl AckTokens {
    /// Where the keys are, if not made at start.
    #[must_use]
    pub fn source(&self) -> Option<SecretSource> {
        SecretSource::either(self.keys.as_ref(), self.key_file.as_ref())
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        findings.require(
            self.keys.is_none() || self.key_file.is_none(),
            "key_file",
            "contradicts `keys`: keep one of the two",
        );
        findings.require(!self.ttl.is_zero(), "ttl", "must be longer than 0");
        findings.readable("key_file", self.key_file.as_deref());
        let Some(Ok(keys)) = self.source().map(|source| source.read()) else {
            return;
        };
        let key = if self.keys.is_some() {
            "keys"
        } else {
            "key_file"
        };
        if keys.expose().trim().is_empty() {
            findings.wrong_at(key, "holds no key");
        }
        for (number, line) in keys.expose().lines().enumerate() {
            // What the line holds stays out of the error.
            if !line.trim().is_empty() && !is_key(line.trim()) {
                findings.wrong_at(
                    key,
                    format!("line {} is not `<id>:<64 hex digits>`", number + 1),
                );
            }
        }
    }
}

fn is_key(line: &str) -> bool {
    line.split_once(':').is_some_and(|(id, key)| {
        !id.is_empty() && key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}
