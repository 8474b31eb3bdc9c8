//! Binding: several TCP addresses and Unix sockets, and what there is to say when one is taken.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};

use super::io::Socket;
use crate::config::ListenAddr;
use crate::layers::peer::{Local, Peer};

/// Why natsway cannot listen: one sentence with the address in it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {0}: another process does; stop it or choose another address under `listen`"
    )]
    Taken(String),
    /// The path of a Unix socket is something else.
    #[error(
        "cannot listen on {0}: there is a file that is not a socket; remove it or choose another path"
    )]
    NotASocket(String),
    /// Anything else the system says.
    #[error("cannot listen on {0}: {1}")]
    System(String, #[source] io::Error),
}

impl BindError {
    fn new(address: &impl ToString, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken(address.to_string()),
            _ => Self::System(address.to_string(), error),
        }
    }
}

/// One bound address.
#[derive(Debug)]
pub struct Listener {
    local: Arc<Local>,
    socket: Bound,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    // The file is kept to be removed with the listener.
    Unix(
        UnixListener,
        #[allow(dead_code, reason = "dropped, never read")] SocketFile,
    ),
}

/// Binds every address a data listener has. Of the default addresses `[::1]` may be missing, because
/// there are machines without IPv6; an address that somebody wrote down may not.
///
/// # Errors
/// When an address cannot be bound.
pub async fn bind(addresses: &[ListenAddr], are_default: bool) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let optional =
            are_default && matches!(address, ListenAddr::Tcp { host, .. } if host == "::1");
        match bind_one(address).await {
            Ok(bound) => listeners.extend(bound),
            Err(BindError::System(address, error)) if optional => {
                tracing::info!(address, %error, "this machine has no IPv6; natsway listens without it");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

async fn bind_one(address: &ListenAddr) -> Result<Vec<Listener>, BindError> {
    let fail = |error| BindError::new(address, error);
    let wrap = |(local, socket)| Listener {
        local: Arc::new(local),
        socket,
    };
    match address {
        ListenAddr::Unix(path) => Ok(vec![wrap(bind_unix(path)?)]),
        ListenAddr::Tcp { host, port } => {
            let resolved = lookup_host((host.as_str(), *port)).await.map_err(fail)?;
            // A name such as `localhost` may stand for several addresses, and for one of them twice.
            let resolved: BTreeSet<SocketAddr> = resolved.collect();
            let mut listeners = Vec::new();
            let mut missing = None;
            for address in resolved {
                match bind_tcp(address).await {
                    Ok(bound) => listeners.push(wrap(bound)),
                    Err(error) if is_not_there(&error) => {
                        missing = Some(error);
                    }
                    Err(error) => return Err(fail(error)),
                }
            }
            // It may also stand for an address that this machine does not have.
            match missing {
                Some(error) if listeners.is_empty() => Err(fail(error)),
                _ => Ok(listeners),
            }
        }
    }
}

/// Whether this machine has no such address, or, without IPv6 in its kernel, no such kind of address.
fn is_not_there(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

async fn bind_tcp(address: SocketAddr) -> io::Result<(Local, Bound)> {
    let listener = TcpListener::bind(address).await?;
    Ok((Local::Tcp(listener.local_addr()?), Bound::Tcp(listener)))
}

fn bind_unix(path: &Path) -> Result<(Local, Bound), BindError> {
    let name = Local::Unix(path.to_owned());
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(BindError::NotASocket(name.to_string()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(BindError::Taken(name.to_string()));
        }
    }
    let (listener, file) = SocketFile::bind(path).map_err(|error| BindError::new(&name, error))?;
    Ok((name, Bound::Unix(listener, file)))
}

/// The file of a Unix socket, removed at a clean end if it is still this process's own.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Bound under another name, restricted, then renamed: there is no moment in which everybody may
    /// connect, and none in which a file left behind by a crash is gone and the new one not there.
    fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        let restricted = fs::set_permissions(&temporary, fs::Permissions::from_mode(0o660))
            .and_then(|()| fs::symlink_metadata(&temporary))
            .and_then(|made| fs::rename(&temporary, path).map(|()| made));
        match restricted {
            Ok(made) => Ok((
                listener,
                Self {
                    path: path.to_owned(),
                    identity: (made.dev(), made.ino()),
                },
            )),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file could not be removed");
        }
    }
}

impl Listener {
    /// The bound address.
    #[must_use]
    pub fn local(&self) -> &Arc<Local> {
        &self.local
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        let (socket, remote) = match &self.socket {
            Bound::Tcp(listener) => {
                let (stream, remote) = ready!(listener.poll_accept(cx))?;
                (Socket::Tcp(stream), Some(remote))
            }
            Bound::Unix(listener, _) => {
                let (stream, _): (UnixStream, _) = ready!(listener.poll_accept(cx))?;
                (Socket::Unix(stream), None)
            }
        };
        let local = Arc::clone(&self.local);
        Poll::Ready(Ok((socket, Peer { local, remote })))
    }

    /// A connection that the kernel has accepted on our behalf, asked of the kernel itself: the runtime
    /// learns of one only after a turn of its own, and may have been kept from that for long.
    pub(super) fn accept_now(&self) -> Option<(Socket, Peer)> {
        let (socket, remote) = match &self.socket {
            Bound::Tcp(listener) => {
                let stream = std::net::TcpStream::from(accept(listener)?);
                let remote = stream.peer_addr().ok();
                (Socket::Tcp(TcpStream::from_std(stream).ok()?), remote)
            }
            Bound::Unix(listener, _) => {
                let stream = std::os::unix::net::UnixStream::from(accept(listener)?);
                (Socket::Unix(UnixStream::from_std(stream).ok()?), None)
            }
        };
        let local = Arc::clone(&self.local);
        Some((socket, Peer { local, remote }))
    }
}

/// None where nobody waits. A client that has left again is nobody.
fn accept(listener: impl AsFd) -> Option<OwnedFd> {
    use rustix::io::Errno;
    use rustix::net::{SocketFlags, accept_with};
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match accept_with(&listener, flags) {
            Ok(accepted) => return Some(accepted),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => return None,
        }
    }
}
