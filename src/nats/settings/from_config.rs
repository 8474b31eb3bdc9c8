//! The settings as an operator writes them.

use crate::config;

use super::{Auth, Credential, QueueLimits, Settings, Tls};

impl From<&config::Nats> for Settings {
    fn from(section: &config::Nats) -> Self {
        Self {
            servers: section.servers.iter().map(ToString::to_string).collect(),
            name: section.name.clone(),
            connections: section.connections,
            auth: section.auth.method().into(),
            tls: (&section.tls).into(),
            connect_timeout: section.connect_timeout,
            ping_interval: section.ping_interval,
            reconnect_min: section.reconnect.min,
            reconnect_max: section.reconnect.max,
            inbox_prefix: section.inbox_prefix.clone(),
            queue: QueueLimits {
                messages: section.buffer.messages,
                bytes: section.buffer.bytes,
            },
        }
    }
}

impl From<config::AuthMethod> for Auth {
    fn from(method: config::AuthMethod) -> Self {
        match method {
            config::AuthMethod::None => Self::None,
            config::AuthMethod::UserPassword(user, password) => Self::User {
                user,
                password: password.into(),
            },
            config::AuthMethod::Token(token) => Self::Token(token.into()),
            config::AuthMethod::NKey(seed) => Self::Nkey(seed.into()),
            config::AuthMethod::Creds(file) => Self::Credentials(file.into()),
        }
    }
}

impl From<config::SecretSource> for Credential {
    fn from(source: config::SecretSource) -> Self {
        Self::new(move || {
            let secret = source.read().map_err(|error| error.to_string())?;
            Ok(secret.expose().to_owned())
        })
    }
}

impl From<&config::Tls> for Tls {
    fn from(section: &config::Tls) -> Self {
        Self {
            required: section.required,
            first: section.first,
            ca_file: section.ca_file.clone(),
            identity: section.cert_file.clone().zip(section.key_file.clone()),
        }
    }
}
