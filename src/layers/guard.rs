//! Keeps a browser from being turned against natsway. Before anything that costs or acts.
//!
//! *DNS rebinding*: a page of `evil.example` whose name is made to point to 127.0.0.1 talks to a loopback
//! listener with `Host: evil.example`, and to the browser that is the same origin. So a loopback TCP
//! listener takes only names that stand for it.
//! *Cross-site requests*: a form or a `fetch` with `text/plain` is sent without a preflight; reading the
//! answer is forbidden to the page, but the message would be published. So a request that a browser
//! marks as another site's is refused, unless its origin is listed in `cors.origins`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use tower::Layer;

use super::cors::Origins;
use super::peer::Local;
use super::{Handle, Request};
use crate::problem::{Code, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Host names that clients may use besides the loopback names, without a port.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// The list of the configuration.
    #[must_use]
    pub fn new(hosts: &[String]) -> Self {
        Self(
            hosts
                .iter()
                .map(|host| String::from_utf8_lossy(unbracketed(host.as_bytes())).into_owned())
                .collect(),
        )
    }

    /// Whether a request may come in on this listener under the names it uses for it. All of them: an
    /// absolute target and a `Host`, or two `Host`s, that disagree are how checks are talked past.
    fn permit(&self, local: &Local, request: &http::Request<Body>) -> bool {
        let Local::Tcp(bound) = local else {
            return true;
        };
        let loopback = local.is_loopback_tcp();
        if !loopback && self.0.is_empty() {
            return true;
        }
        let named = request.uri().authority().map(Authority::as_str);
        let hosts = request.headers().get_all(HOST).iter();
        let mut seen = false;
        for host in named
            .map(str::as_bytes)
            .into_iter()
            .chain(hosts.map(AsRef::as_ref))
        {
            seen = true;
            // What nearly everybody says, before anything is made of it.
            if loopback && matches!(name_of(host), Some(b"127.0.0.1" | b"localhost" | b"::1")) {
                continue;
            }
            let name = name_of(host).and_then(|name| std::str::from_utf8(name).ok());
            if !name.is_some_and(|name| self.permits_name(name, bound.ip(), loopback)) {
                return false;
            }
        }
        seen
    }

    fn permits_name(&self, name: &str, bound: IpAddr, loopback: bool) -> bool {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let address = name.parse::<IpAddr>().ok();
        address == Some(bound)
            || (loopback && (is("localhost") || address.is_some_and(|a| a.is_loopback())))
            || self.0.iter().any(|host| is(host))
    }
}

/// The name in `host[:port]`, without brackets and the root's dot. It is only ever compared, so what is
/// no name needs no more than to be none of ours.
fn name_of(host: &[u8]) -> Option<&[u8]> {
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => (&host[..colon], &host[colon + 1..]),
        _ => (host, b"".as_slice()),
    };
    let mut name = port
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| unbracketed(name))?;
    while let Some(rest) = name.strip_suffix(b".") {
        name = rest;
    }
    Some(name)
}

fn unbracketed(host: &[u8]) -> &[u8] {
    host.strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"))
        .unwrap_or(host)
}

/// The layer.
pub fn layer<N: Handle>(hosts: &Hosts, origins: &Origins) -> impl Layer<N, Service = Guard<N>> {
    let (hosts, origins) = (hosts.clone(), origins.clone());
    tower::layer::layer_fn(move |next| Guard {
        next,
        hosts: hosts.clone(),
        origins: origins.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct Guard<N> {
    next: N,
    hosts: Hosts,
    origins: Origins,
}

impl<N: Handle> Handle for Guard<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        // Not a `match`: its scrutinee would live in the future for as long as the request does.
        if let Err(problem) = self.check(&request) {
            return problem.into_response();
        }
        self.next.handle(request).await
    }
}

impl<N> Guard<N> {
    fn check(&self, request: &Request) -> Result<(), Problem> {
        if let Some(peer) = &request.context.peer
            && !self.hosts.permit(&peer.local, request)
        {
            return Err(Problem::new(Code::HostNotAllowed));
        }
        if is_foreign(request, &self.origins) {
            return Err(Problem::new(Code::OriginNotAllowed));
        }
        Ok(())
    }
}

/// Whether a browser says that another site is behind the request. What is no browser sends neither
/// header. A page on another port of the same host is the same site to a browser, and foreign here; a
/// link on it may still be followed.
fn is_foreign(request: &http::Request<Body>, origins: &Origins) -> bool {
    let headers = request.headers();
    let mut origin = headers.get_all(ORIGIN).iter();
    match (origin.next(), origin.next()) {
        (Some(origin), None) if origins.allow(origin.as_bytes()) => false,
        (Some(origin), None) => !is_own(origin.as_bytes(), request),
        (Some(_), Some(_)) => true,
        (None, _) => match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            Some(b"cross-site") => true,
            Some(b"same-site") => headers.get(SEC_FETCH_MODE).is_none_or(|m| m != "navigate"),
            _ => false,
        },
    }
}

/// Whether the origin is the very host that was asked: a page served from the same address by a proxy in
/// front. On loopback the host was checked before.
fn is_own(origin: &[u8], request: &http::Request<Body>) -> bool {
    // HTTP/2 says it in the target instead.
    let named = request
        .uri()
        .authority()
        .map(|host| host.as_str().as_bytes());
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let Some(host) = host.or(named) else {
        return false;
    };
    let rest = [b"http://".as_slice(), b"https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(*scheme));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn local(address: &str) -> Local {
        Local::Tcp(address.parse().unwrap())
    }

    fn permitted(hosts: &[&str], local: &Local, target: &str, host: &[&str]) -> bool {
        let hosts = Hosts::new(&hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut request = http::Request::builder().uri(target);
        for host in host {
            request = request.header(HOST, *host);
        }
        hosts.permit(local, &request.body(Body::empty()).unwrap())
    }

    #[test]
    fn a_loopback_listener_takes_names_that_stand_for_it() {
        let loopback = local("127.0.0.1:4280");
        for (host, fine) in [
            ("localhost", true),
            ("LocalHost:4280", true),
            ("localhost.", true),
            ("127.0.0.1:9", true),
            ("[::1]:4280", true),
            ("127.8.8.8", true),
            ("evil.com", false),
            ("localhost.evil.com", false),
            ("127.0.0.1.nip.io", false),
            ("127.0.0.1@evil.com", false),
            ("evil.com@127.0.0.1", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(permitted(&[], &loopback, "/", &[host]), fine, "{host}");
        }
        assert!(permitted(
            &["Gate.Local"],
            &loopback,
            "/",
            &["gate.local:80"]
        ));
    }

    #[test]
    fn a_missing_or_contradicting_host_is_refused() {
        let loopback = local("127.0.0.1:4280");
        assert!(!permitted(&[], &loopback, "/", &[]));
        assert!(!permitted(&[], &loopback, "/", &["localhost", "evil.com"]));
        assert!(!permitted(
            &[],
            &loopback,
            "http://evil.com/",
            &["localhost"]
        ));
        assert!(!permitted(
            &[],
            &loopback,
            "http://localhost/",
            &["evil.com"]
        ));
        assert!(permitted(&[], &loopback, "http://localhost/", &[]));
    }

    #[test]
    fn other_listeners_check_only_what_is_configured() {
        let everywhere = local("0.0.0.0:4280");
        assert!(permitted(&[], &everywhere, "/", &["anything.example"]));
        assert!(!permitted(
            &["gate.example"],
            &everywhere,
            "/",
            &["evil.com"]
        ));
        assert!(permitted(
            &["gate.example"],
            &everywhere,
            "/",
            &["gate.example"]
        ));
        let unix = Local::Unix("/run/natsway.sock".into());
        assert!(permitted(&["gate.example"], &unix, "/", &["evil.com"]));
    }

    fn foreign(target: &str, headers: &[(HeaderName, Option<&str>)]) -> bool {
        let origins = Origins::new(&crate::config::Cors {
            origins: vec!["https://app.example".parse().unwrap()],
        });
        let mut request = http::Request::builder().uri(target);
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, *value);
            }
        }
        is_foreign(&request.body(Body::empty()).unwrap(), &origins)
    }

    #[test]
    fn over_http_2_the_own_host_is_in_the_target() {
        for (origin, is_foreign) in [
            ("http://localhost:4280", false),
            ("http://localhost:3000", true),
        ] {
            let target = "http://localhost:4280/v1/publish/a";
            assert_eq!(foreign(target, &[(ORIGIN, Some(origin))]), is_foreign);
        }
    }

    #[test]
    fn another_port_of_the_host_may_link_here_and_no_more() {
        for (mode, is_foreign) in [
            (Some("no-cors"), true),
            (None, true),
            (Some("navigate"), false),
        ] {
            let headers = [
                (HOST, Some("localhost:4280")),
                (SEC_FETCH_SITE, Some("same-site")),
                (SEC_FETCH_MODE, mode),
            ];
            assert_eq!(foreign("/", &headers), is_foreign, "{mode:?}");
        }
    }

    #[test]
    fn a_foreign_page_is_refused_unless_listed() {
        for (origin, site, expected) in [
            (None, None, false),
            (None, Some("same-origin"), false),
            (None, Some("none"), false),
            (None, Some("cross-site"), true),
            (Some("https://app.example"), Some("cross-site"), false),
            (Some("https://app.example.evil"), None, true),
            (Some("https://evil.example"), None, true),
            (Some("http://app.example"), None, true),
            (Some("null"), None, true),
            (Some("http://localhost:4280"), Some("same-origin"), false),
            (Some("http://localhost:3000"), Some("same-site"), true),
        ] {
            let headers = [
                (HOST, Some("localhost:4280")),
                (ORIGIN, origin),
                (SEC_FETCH_SITE, site),
            ];
            assert_eq!(foreign("/", &headers), expected, "{origin:?} {site:?}");
        }
    }
}
