//! Where a request came in, and from where.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The listener's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// A TCP socket, with the port it was given where the configuration said 0.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Local {
    /// Whether only this machine can reach it over TCP, and so a browser on it can be made to.
    #[must_use]
    pub fn is_loopback_tcp(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.ip().to_canonical().is_loopback())
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connection's two ends. The local end is shared by its connections.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The listener.
    pub local: Arc<Local>,
    /// The client; none on a Unix socket.
    pub remote: Option<SocketAddr>,
}

impl Peer {
    /// The client's address with a mapped IPv4 address as IPv4, so that it has one form.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.ip().to_canonical())
    }
}
