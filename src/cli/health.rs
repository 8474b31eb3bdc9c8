//! `natsway health`: the probe of a container that has no shell and no curl.
//!
//! It reads the admin address alone from the configuration, so a mistake somebody made in the file
//! since the start does not get a healthy natsway killed.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use clap::Args;

use super::End;
use crate::config::{ListenAddr, Sources};

/// Below the timeout probes usually have, so that the answer says why.
const TIMEOUT: Duration = Duration::from_secs(2);
/// `HTTP/1.1 200` and a few more: all that is read of the answer.
const STATUS_BYTES: usize = 12;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Ask whether it is ready instead
    #[arg(long, conflicts_with = "url")]
    ready: bool,
    /// Ask this URL instead of the admin listener of the configuration
    #[arg(long, value_name = "URL")]
    url: Option<http::Uri>,
}

/// Asks; anything but a 2xx within the timeout is a no.
pub(super) fn ask(what: &HealthArgs, sources: &Sources) -> End {
    let (address, path) = match target(what, sources) {
        Ok(target) => target,
        Err(message) => return End::Misused(message),
    };
    match status(&address, &path) {
        Ok(200..=299) => End::Fine,
        Ok(status) => End::Failed(format!("{address}{path} answers {status}")),
        Err(error) => End::Failed(format!("{address}{path}: {error}")),
    }
}

fn target(what: &HealthArgs, sources: &Sources) -> Result<(ListenAddr, String), String> {
    let Some(url) = &what.url else {
        let path = if what.ready { "/readyz" } else { "/livez" };
        let admin = sources.admin().map_err(|errors| errors.to_string())?;
        return Ok((reachable(admin)?, path.to_owned()));
    };
    let host = url.host().filter(|_| url.scheme_str() == Some("http"));
    let host = host
        .ok_or_else(|| format!("`{url}` is not an http URL"))?
        .trim_matches(['[', ']']);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok((
        ListenAddr::tcp(host, url.port_u16().unwrap_or(80)),
        path.to_owned(),
    ))
}

/// Where something that listens on all addresses can be asked.
fn reachable(address: ListenAddr) -> Result<ListenAddr, String> {
    match address {
        ListenAddr::Tcp { port: 0, .. } => {
            Err("the admin port is 0; name the one it got with --url".to_owned())
        }
        ListenAddr::Tcp { host, port } if host == "0.0.0.0" => {
            Ok(ListenAddr::tcp("127.0.0.1", port))
        }
        ListenAddr::Tcp { host, port } if host == "::" => Ok(ListenAddr::tcp("::1", port)),
        other => Ok(other),
    }
}

fn status(address: &ListenAddr, path: &str) -> io::Result<u16> {
    let deadline = Instant::now() + TIMEOUT;
    match address {
        ListenAddr::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream, "localhost", path, deadline)
        }
        ListenAddr::Tcp { host, port } => {
            let stream = connect(host, *port, deadline)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            let bracketed = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            exchange(stream, &format!("{bracketed}:{port}"), path, deadline)
        }
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    path: &str,
    deadline: Instant,
) -> io::Result<u16> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: natsway-health\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; STATUS_BYTES];
    let mut read = 0;
    while read < STATUS_BYTES {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(&mut head[read..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|status| std::str::from_utf8(status).ok());
    status
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(
        url: Option<&str>,
        ready: bool,
        admin: &str,
    ) -> Result<(ListenAddr, String), String> {
        let environment = vec![("NATSWAY_LISTEN__ADMIN".to_owned(), admin.to_owned())];
        let what = HealthArgs {
            ready,
            url: url.map(|url| url.parse().unwrap()),
        };
        target(
            &what,
            &Sources {
                environment,
                ..Sources::default()
            },
        )
    }

    #[test]
    fn it_asks_the_admin_listener_where_it_can_be_reached() {
        for (admin, address) in [
            ("127.0.0.1:9", ListenAddr::tcp("127.0.0.1", 9)),
            ("0.0.0.0:9", ListenAddr::tcp("127.0.0.1", 9)),
            ("[::]:9", ListenAddr::tcp("::1", 9)),
            ("unix:/x.sock", ListenAddr::Unix("/x.sock".into())),
        ] {
            assert_eq!(
                target_of(None, false, admin),
                Ok((address, "/livez".to_owned()))
            );
        }
        assert_eq!(target_of(None, true, "").unwrap().1, "/readyz");
        assert!(target_of(None, false, "127.0.0.1:0").is_err());
    }

    #[test]
    fn a_url_may_name_another() {
        let target = |url| target_of(Some(url), false, "");
        let expected = (
            ListenAddr::tcp("natsway-admin.prod", 4281),
            "/readyz?strict=true".to_owned(),
        );
        assert_eq!(
            target("http://natsway-admin.prod:4281/readyz?strict=true"),
            Ok(expected)
        );
        assert_eq!(
            target("http://[::1]:9/livez").unwrap().0,
            ListenAddr::tcp("::1", 9)
        );
        assert!(target("https://a/livez").is_err() && target("/livez").is_err());
    }

    #[test]
    fn only_a_status_line_is_an_answer() {
        struct Canned(&'static [u8]);
        impl Read for Canned {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                // A byte at a time, as a slow network may.
                self.0.read(&mut buffer[..1])
            }
        }
        impl Write for Canned {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let soon = Instant::now() + Duration::from_secs(60);
        let answer = |bytes| exchange(Canned(bytes), "h", "/livez", soon);
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), 204);
        assert_eq!(
            answer(b"HTTP/1.1 503 Service Unavailable\r\n").unwrap(),
            503
        );
        assert!(answer(b"HTTP/1.1 2").is_err());
        assert!(answer(b"SSH-2.0-OpenSSH_9").is_err());
    }
}
