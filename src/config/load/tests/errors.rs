//! What is wrong is told, all of it, each with its path.

use super::*;

#[test]
fn all_errors_are_reported_together_each_with_its_path() {
    let found = errors(
        r#"
nats: { servers: ["ftp://x", [7], "nats://ok", "nats://a b"], connections: many, auth: { token: t, password: p }, colour: blue }
api: { publish: { timeout: 5 parsecs }, batch: 3, manage: maybe }
routes:
  - nonsense
  - { name: a, match: { method: POST, path: /v1/x }, publish: { subject: "a b" } }
  - { name: a, match: { method: FETCH, path: nowhere }, request: { subject: "x.{y}" }, tmeout: 1s }
cors: { origins: ["*"] }
nonsense: 1
"#,
    );
    let paths: Vec<&str> = found
        .iter()
        .map(|error| error.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "api.batch",
            "api.manage",
            "api.publish.timeout",
            "cors.origins[0]",
            "nats.auth.token",
            "nats.auth.user",
            "nats.colour",
            "nats.connections",
            "nats.servers[0]",
            "nats.servers[1]",
            "nats.servers[3]",
            "nonsense",
            "routes[0]",
            "routes[1].match.path",
            "routes[1].publish.subject",
            "routes[2].match.method",
            "routes[2].match.path",
            "routes[2].name",
            "routes[2].tmeout",
        ],
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|error| error.contains("unknown key `tmeout`")),
        "{found:#?}"
    );
}

#[test]
fn bounds_fit_together() {
    for (yaml, at) in [
        ("http: { connections_max: 10000 }", "http.connections_max: "),
        (
            "api: { request: { timeout: 2m } }",
            "api.request.timeout_max: ",
        ),
        (
            "api: { publish: { body_limit: 65MiB } }",
            "api.publish.body_limit: ",
        ),
        (
            "api: { publish: { concurrency: { limit: 0 } } }",
            "api.publish.concurrency.limit: ",
        ),
        (
            "api: { batch: { line_limit: 0 } }",
            "api.batch.line_limit: ",
        ),
        ("nats: { reconnect: { min: 2s } }", "nats.reconnect.max: "),
        ("nats: { inbox_prefix: \"a.>\" }", "nats.inbox_prefix: "),
        (
            "nats: { tls: { cert_file: /dev/null } }",
            "nats.tls.key_file: ",
        ),
        ("listen: { data: [] }", "listen.data: "),
        ("listen: { data: [\"127.0.0.1:4281\"] }", "listen.admin: "),
        ("listen: { data: [\"unix:relative\"] }", "listen.data[0]: "),
        ("listen: { data: [\":4280\"] }", "listen.data[0]: "),
        ("streams: { keep_alive: 0 }", "streams.keep_alive: "),
        ("memory: { bodies: 1KiB }", "memory.bodies: "),
        (
            "telemetry: { log: { level: \"a=b=c\" } }",
            "telemetry.log.level: ",
        ),
        (
            "telemetry: { traces: { sample: 2 } }",
            "telemetry.traces.sample: ",
        ),
        (
            "telemetry: { traces: { otlp_endpoint: collector } }",
            "telemetry.traces.otlp_endpoint: ",
        ),
        ("runtime: { workers: 0 }", "runtime.workers: "),
    ] {
        assert_one(yaml, at, "");
    }
}
