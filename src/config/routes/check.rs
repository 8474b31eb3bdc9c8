//! What must hold for declared routes, one by one and together.

use http::HeaderName;

use super::{Action, Method, Route, path::Conflict};
use crate::config::{
    endpoint::{self, Confirm},
    errors::Findings,
};

/// The names of natsway's own routes, and of what answers where there is none, in metrics and logs.
pub const RESERVED_NAMES: [&str; 23] = [
    "acks-many",
    "acks-one",
    "batch",
    "consumers-delete",
    "consumers-get",
    "consumers-put",
    "fetch",
    "messages-get",
    "messages-last",
    "method-not-allowed",
    "not-found",
    "openapi",
    "publish",
    "replay",
    "request",
    "streams-delete",
    "streams-get",
    "streams-list",
    "streams-purge",
    "streams-put",
    "subscribe",
    "subscribe-many",
    "ws",
];
const NAME_BYTES_MAX: usize = 64;

/// Checks all routes.
pub(in crate::config) fn check_routes(routes: &[std::sync::Arc<Route>], findings: &mut Findings) {
    for (index, route) in routes.iter().enumerate() {
        findings.entry(index, |findings| {
            check_route(route, findings);
            for earlier in &routes[..index] {
                check_pair(earlier, route, findings);
            }
        });
    }
}

fn check_pair(earlier: &Route, route: &Route, findings: &mut Findings) {
    if !route.name.is_empty() && earlier.name == route.name {
        findings.wrong_at(
            "name",
            format!("`{}` is the name of an earlier route", route.name),
        );
    }
    let (ours, theirs) = (&route.matches.path, &earlier.matches.path);
    if ours.as_str().is_empty() || theirs.as_str().is_empty() {
        return;
    }
    let own = format!("route `{}` ({ours})", route.name);
    let other = format!("route `{}` ({theirs})", earlier.name);
    let what = match ours.conflict(theirs) {
        Some(Conflict::Same) if route.matches.method == earlier.matches.method => {
            format!("{own} takes the same requests as {other}")
        }
        Some(Conflict::Crossing) if route.matches.method == earlier.matches.method => {
            format!("{own} and {other} both take some requests, and neither is more specific")
        }
        // One path, one entry in the router, whatever the method.
        _ if ours.renames(theirs) => format!("{own} must name its captures as {other} does"),
        _ => return,
    };
    findings.under("match", |findings| findings.wrong_at("path", what));
}

fn check_route(route: &Route, findings: &mut Findings) {
    check_name(&route.name, findings);
    findings.under("match", |findings| {
        let path = &route.matches.path;
        if path.as_str().is_empty() {
            findings.wrong_at("path", "missing");
        } else if path.is_reserved() {
            findings.wrong_at(
                "path",
                format!("`{path}` lies below `/v1/`, which is natsway's own"),
            );
        }
    });
    endpoint::check_policy(&route.policy(), findings);
    match route.actions()[..] {
        [action] => check_action(route, &action, findings),
        [] => findings.wrong("needs one of publish, request, subscribe and replay"),
        [first, second, ..] => findings.wrong_at(
            second.key(),
            format!(
                "contradicts `{}`: a route does exactly one thing",
                first.key()
            ),
        ),
    }
    findings.under("headers", |findings| check_headers(route, findings));
}

fn check_name(name: &str, findings: &mut Findings) {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() {
        findings.wrong_at("name", "missing");
    } else if name.len() > NAME_BYTES_MAX || !name.bytes().all(legal) {
        findings.wrong_at(
            "name",
            format!("`{name}` is not up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"),
        );
    } else if RESERVED_NAMES.contains(&name) {
        findings.wrong_at(
            "name",
            format!("`{name}` is the name of a built-in endpoint"),
        );
    }
}

fn check_action(route: &Route, action: &Action<'_>, findings: &mut Findings) {
    check_method(route.matches.method, action, findings);
    findings.under("params", |findings| {
        for (index, param) in route.params.iter().enumerate() {
            if !action.params().contains(param) {
                let what = format!("`{}` means nothing to {}", param.as_str(), action.key());
                findings.entry(index, |findings| findings.wrong(what));
            }
        }
    });
    findings.under(action.key(), |findings| {
        check_subjects(route, action, findings);
        match action {
            Action::Publish(publish) => {
                let fits = publish.stream.is_none() || publish.confirm == Confirm::Stream;
                findings.require(fits, "stream", "goes together with `confirm: stream`");
            }
            Action::Subscribe(subscribe) => {
                findings.require(
                    !subscribe.subjects.is_empty(),
                    "subjects",
                    "needs at least one subject",
                );
                if let Some(buffer) = subscribe.buffer {
                    findings.under("buffer", |findings| buffer.check(findings));
                }
            }
            Action::Request(_) | Action::Replay(_) => {}
        }
    });
}

fn check_method(method: Method, action: &Action<'_>, findings: &mut Findings) {
    let what = match (action, method) {
        (Action::Publish(_), Method::Get) => "must not be GET: a GET may be repeated or prefetched",
        (Action::Subscribe(_) | Action::Replay(_), other) if other != Method::Get => {
            "must be GET for a stream"
        }
        _ => return,
    };
    findings.under("match", |findings| findings.wrong_at("method", what));
}

fn check_subjects(route: &Route, action: &Action<'_>, findings: &mut Findings) {
    let wildcards = matches!(action, Action::Subscribe(_) | Action::Replay(_));
    let subjects = action.subjects();
    for (position, (key, index, subject)) in subjects.iter().enumerate() {
        let mut wrong = Vec::new();
        if subject.has_wildcards() && !wildcards {
            wrong.push(format!(
                "`{subject}` holds a wildcard; one literal subject is needed"
            ));
        }
        wrong.extend(undeclared(route, subject.captures()));
        if let Some((.., other)) = subjects[..position]
            .iter()
            .find(|(.., other)| other.widest().overlaps(subject.widest()))
        {
            wrong.push(format!("`{subject}` overlaps `{other}`"));
        }
        findings.under(key, |findings| {
            for what in wrong {
                match index {
                    Some(index) => findings.entry(*index, |findings| findings.wrong(what)),
                    None => findings.wrong(what),
                }
            }
        });
    }
}

/// The captures among `used` that the path does not have.
fn undeclared<'u>(route: &Route, used: impl Iterator<Item = &'u str>) -> Vec<String> {
    if route.matches.path.as_str().is_empty() {
        return Vec::new();
    }
    used.filter(|name| {
        !route
            .matches
            .path
            .captures()
            .any(|declared| declared == *name)
    })
    .map(|name| {
        format!(
            "uses the capture `{{{name}}}`, which `{}` does not have",
            route.matches.path
        )
    })
    .collect()
}

fn check_headers(route: &Route, findings: &mut Findings) {
    let headers = &route.headers;
    for (key, names) in [("forward", &headers.forward), ("return", &headers.returned)] {
        findings.under(key, |findings| {
            for (index, name) in names.iter().enumerate() {
                findings.entry(index, |findings| {
                    check_header_name(name, key == "return", findings)
                });
            }
        });
    }
    findings.under("set", |findings| {
        for (name, value) in &headers.set {
            findings.under(name, |findings| {
                check_header_name(name, false, findings);
                let captures = value
                    .0
                    .captures()
                    .filter(|name| !name.starts_with("query."));
                for what in undeclared(route, captures) {
                    findings.wrong(what);
                }
            });
        }
    });
}

fn check_header_name(name: &str, returned: bool, findings: &mut Findings) {
    let lower = name.to_ascii_lowercase();
    let nats_own = lower.starts_with("nats-") || matches!(&*lower, "kv-operation" | "status");
    let framing = [
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
    ];
    if HeaderName::try_from(name).is_err() {
        findings.wrong(format!("`{name}` is not a header name"));
    } else if nats_own {
        findings.wrong(format!("`{name}` belongs to NATS"));
    } else if framing.contains(&&*lower) || (returned && unreturnable(&lower)) {
        findings.wrong(format!(
            "`{name}` belongs to the HTTP connection or its security"
        ));
    }
}

/// A responder must not be able to set cookies or open an origin.
fn unreturnable(lower: &str) -> bool {
    lower.starts_with("access-control-")
        || matches!(lower, "set-cookie" | "set-cookie2" | "x-request-id")
}
