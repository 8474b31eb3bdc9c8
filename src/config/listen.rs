//! `listen`: where natsway can be reached.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{errors::Findings, text::written};

/// The port of the data listener: free in a pod, where the application owns 8080.
pub const DATA_PORT: u16 = 4280;
/// The port of the admin listener.
pub const ADMIN_PORT: u16 = 4281;

/// Where natsway can be reached. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Addresses for clients: `host:port`, or `unix:/run/natsway/http.sock` (mode 0660). Port 0 takes a free one; the bound addresses are logged. By default loopback only, and `[::1]` where IPv6 exists, because whoever reaches it may publish.
    pub data: Vec<ListenAddr>,
    /// Address for probes, metrics and the OpenAPI document.
    pub admin: ListenAddr,
    /// `Host` names clients may use, without port. On loopback TCP listeners these, the loopback names and the bound address are accepted, against DNS rebinding; on others the name is checked only where this is not empty; on Unix sockets never.
    pub hosts: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            data: vec![
                ListenAddr::tcp("127.0.0.1", DATA_PORT),
                ListenAddr::tcp("::1", DATA_PORT),
            ],
            admin: ListenAddr::tcp("127.0.0.1", ADMIN_PORT),
            hosts: Vec::new(),
        }
    }
}

impl Listen {
    /// Whether the data addresses are the built-in ones, of which `[::1]` may be missing on a host without IPv6.
    #[must_use]
    pub fn is_default_data(&self) -> bool {
        self.data == Self::default().data
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        findings.require(!self.data.is_empty(), "data", "needs at least one address");
        let mut seen: Vec<&ListenAddr> = Vec::new();
        findings.under("data", |findings| {
            for (index, address) in self.data.iter().enumerate() {
                if seen.contains(&address) && !address.is_any_port() {
                    findings.entry(index, |f| f.wrong(format!("{address} is listed twice")));
                }
                seen.push(address);
            }
        });
        if seen.contains(&&self.admin) && !self.admin.is_any_port() {
            findings.wrong_at("admin", format!("{} is a data address, too", self.admin));
        }
        findings.under("hosts", |findings| {
            for (index, host) in self.hosts.iter().enumerate() {
                let legal = !host.is_empty() && !host.contains(['/', '@', ' ', ',']);
                if !legal {
                    findings.entry(index, |f| f.wrong(format!("`{host}` is not a host name")));
                }
            }
        });
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// A host name or IP address (without brackets), and a port.
    Tcp {
        /// Resolved when it is bound.
        host: String,
        /// 0 takes a free one.
        port: u16,
    },
    /// A Unix socket; a file left behind is replaced.
    Unix(PathBuf),
}

impl ListenAddr {
    /// A TCP address.
    #[must_use]
    pub fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp { port: 0, .. })
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither host:port nor unix:/path");
        if let Some(path) = text.strip_prefix("unix:") {
            // What is bound must not depend on the directory natsway happens to be started in.
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(wrong())
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Ok(Self::tcp(v6, port)),
            None if is_host(host) => Ok(Self::tcp(host, port)),
            _ => Err(wrong()),
        }
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

written!(
    ListenAddr,
    "ListenAddr",
    "host:port or unix:/path",
    ["127.0.0.1:4280", "unix:/run/natsway/http.sock"]
);
