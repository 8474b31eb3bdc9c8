//! `nats.auth`: who natsway is for NATS.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    errors::Findings,
    secret::{Secret, SecretSource},
};

/// Who natsway is for NATS: one of user and password, a token, an NKey or a credentials file; none by default. Files are read at every connect, so a rotated secret counts from the next one on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The user, with a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password; best given as `password_file` or by the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A token; best given as `token_file` or by the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// An NKey seed; best given as `nkey_file` or by the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<Secret>,
    /// File that holds the NKey seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey_file: Option<PathBuf>,
    /// The text of a `.creds` file; best given as `creds_file` or by the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creds: Option<Secret>,
    /// A `.creds` file, with a user JWT and its seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creds_file: Option<PathBuf>,
}

/// The one way natsway proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all.
    None,
    /// User and password.
    UserPassword(String, SecretSource),
    /// A token.
    Token(SecretSource),
    /// An NKey seed.
    NKey(SecretSource),
    /// A user JWT with its seed.
    Creds(SecretSource),
}

impl Auth {
    /// The method that is configured; a checked configuration has at most one.
    #[must_use]
    pub fn method(&self) -> AuthMethod {
        let either = SecretSource::either;
        let password = either(self.password.as_ref(), self.password_file.as_ref());
        let user = self
            .user
            .clone()
            .zip(password)
            .map(|(user, password)| AuthMethod::UserPassword(user, password));
        user.or_else(|| {
            either(self.token.as_ref(), self.token_file.as_ref()).map(AuthMethod::Token)
        })
        .or_else(|| either(self.nkey.as_ref(), self.nkey_file.as_ref()).map(AuthMethod::NKey))
        .or_else(|| either(self.creds.as_ref(), self.creds_file.as_ref()).map(AuthMethod::Creds))
        .unwrap_or(AuthMethod::None)
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        let given = self.given();
        for pair in given.windows(2) {
            let [(kind, first), (other, second)] = pair else {
                continue;
            };
            let what = if kind == other {
                format!("`{first}` is set already; keep one of the two")
            } else {
                format!("contradicts `{first}`: keep one kind of authentication")
            };
            findings.wrong_at(second, what);
        }
        let password = self.password.is_some() || self.password_file.is_some();
        findings.require(
            self.user.is_some() || !password,
            "user",
            "missing: there is a password without a user",
        );
        findings.require(
            self.user.is_none() || password,
            "password_file",
            "missing: there is a user without a password",
        );
        for (key, file) in [
            ("password_file", &self.password_file),
            ("token_file", &self.token_file),
            ("nkey_file", &self.nkey_file),
            ("creds_file", &self.creds_file),
        ] {
            findings.readable(key, file.as_deref());
        }
    }

    /// Kind and key of every secret that is set.
    fn given(&self) -> Vec<(&'static str, &'static str)> {
        [
            ("password", "password", self.password.is_some()),
            ("password", "password_file", self.password_file.is_some()),
            ("token", "token", self.token.is_some()),
            ("token", "token_file", self.token_file.is_some()),
            ("nkey", "nkey", self.nkey.is_some()),
            ("nkey", "nkey_file", self.nkey_file.is_some()),
            ("creds", "creds", self.creds.is_some()),
            ("creds", "creds_file", self.creds_file.is_some()),
        ]
        .into_iter()
        .filter_map(|(kind, key, set)| set.then_some((kind, key)))
        .collect()
    }
}
