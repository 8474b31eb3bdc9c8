//! What a link needs to know to connect.

mod from_config;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::queue::QueueLimits;

/// A secret that is read when it is needed, and never shown.
#[derive(Clone)]
pub struct Credential(Arc<dyn Fn() -> Result<String, String> + Send + Sync>);

impl Credential {
    /// `read` is called at every connect; its error must not hold the secret.
    #[must_use]
    pub fn new(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn read(&self) -> Result<String, String> {
        (self.0)()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// How natsway proves who it is. Files are read again at every connect, so a rotated one counts.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// User and password.
    User {
        /// The user's name.
        user: String,
        /// The password.
        password: Credential,
    },
    /// A token.
    Token(Credential),
    /// The seed of a user nkey.
    Nkey(Credential),
    /// A credentials file: a user JWT and a seed.
    Credentials(Credential),
}

/// TLS towards NATS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Refuse a server that does not speak TLS.
    pub required: bool,
    /// Shake hands before the server's INFO.
    pub first: bool,
    /// Authorities to trust, in PEM; none: the platform's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The settings of all links.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `nats://host:port` each, without user information.
    pub servers: Vec<String>,
    /// What the server's monitoring shows.
    pub name: String,
    /// How many links carry messages.
    pub connections: usize,
    /// Who we are.
    pub auth: Auth,
    /// TLS.
    pub tls: Tls,
    /// For one attempt at one address.
    pub connect_timeout: Duration,
    /// A half-open connection is noticed within three of these.
    pub ping_interval: Duration,
    /// The shortest wait between rounds of attempts.
    pub reconnect_min: Duration,
    /// The longest wait between rounds of attempts.
    pub reconnect_max: Duration,
    /// The NATS user needs publish and subscribe on `<prefix>.>`.
    pub inbox_prefix: String,
    /// The send queue of each link.
    pub queue: QueueLimits,
}
