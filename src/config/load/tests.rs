use std::{fs, path::Path, time::Duration};

use super::*;
use crate::config::{
    AuthMethod, Confirm, ListenAddr, Quota, RateKey, ReplayFrom, SecretSource, SizeLimit,
    WhenDisconnected, Workers,
};

mod random;
mod reload;
mod routes;
mod secrets;

/// Everything that may be written, with values other than the defaults where it matters.
const FULL: &str = r#"
listen:
  data: ["127.0.0.1:0", "unix:/run/natsway/http.sock"]
  admin: "127.0.0.1:4281"
  hosts: [natsway.test]
nats:
  servers: ["nats://127.0.0.1:4222"]
  connections: 2
  auth:
  tls: { required: false }
  reconnect: { min: 50ms, max: 1500ms }
  buffer: { messages: 8192, bytes: 32MiB }
api:
  openapi: true
  publish:   { subjects: { allow: [">"], deny: [secret.>], root_wildcards: false }, confirm: server, timeout: 5s, timeout_max: 30s, body_limit: auto, concurrency: { limit: 1024, queue: 1024 } }
  batch:     { body_limit: 0, line_limit: auto, idle_timeout: 30s, concurrency: { limit: 16, queue: 16 } }
  request:   { timeout: 5s, timeout_max: 60s, when_disconnected: fail }
  subscribe: false
  jetstream: { enabled: true, catchups_max: 128 }
  manage: true
routes:
  - name: create-order
    match:   { method: POST, path: /orders }
    publish: { subject: orders.created, confirm: stream, stream: ORDERS }
    timeout: 2s
    concurrency: { limit: 64, queue: 128 }
    rate:    { limit: 200/s, burst: 50, key: "header:X-Tenant" }
  - name: stock
    match:   { method: GET, path: "/stock/{sku}" }
    request: { subject: "inventory.stock.{sku}" }
    timeout: 500ms
    when_disconnected: wait
    breaker: { failures: 5, window: 10s, open_for: 5s }
    headers: { forward: [X-Tenant], set: { Order-Source: "web-{sku}-{query.page}" }, return: [X-Cache] }
    params: [timeout]
  - name: order-feed
    match:     { method: GET, path: /orders/feed }
    subscribe: { subjects: ["orders.>"] }
  - name: order-history
    match:  { method: GET, path: /orders/history }
    replay: { stream: ORDERS, subject: "orders.>", from: all }
cors: { origins: ["https://app.example.com"] }
streams: { keep_alive: 15s, max_age: 0s }
http: { header_timeout: 10s, body_timeout: 30s, idle_timeout: 75s, connections_max: 16384, compression: false }
memory: { bodies: 64MiB, streams: 128MiB }
shutdown: { ready_delay: 0, grace: 25s }
telemetry:
  log: { format: auto, level: info, access: off }
  traces: { otlp_endpoint: "http://collector:4318", sample: 0.5, trust: link }
ack_tokens: { ttl: 1h }
runtime: { workers: 4 }
"#;

fn file(name: &str, text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (
        folder,
        Sources {
            file: Some(path),
            ..Sources::default()
        },
    )
}

fn load(yaml: &str) -> Result<Config, ConfigErrors> {
    let (_folder, sources) = file("natsway.yaml", yaml);
    sources.load()
}

/// The errors, one a line.
fn errors(yaml: &str) -> Vec<String> {
    load(yaml)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
fn assert_one(yaml: &str, starts: &str, holds: &str) {
    let errors = errors(yaml);
    let fits = matches!(&errors[..], [only] if only.starts_with(starts) && only.contains(holds));
    assert!(fits, "{yaml}\n{errors:#?}");
}

#[test]
fn nothing_configured_is_the_defaults() {
    assert_eq!(Sources::default().load(), Ok(Config::default()));
    assert_eq!(load("nats:\nroutes:\n# nothing\n"), Ok(Config::default()));
}

#[test]
fn objects_are_merged_key_by_key() {
    let config =
        load("nats: { buffer: { messages: 10 } }\napi: { batch: { concurrency: { limit: 2 } } }")
            .unwrap();
    assert_eq!(
        (config.nats.buffer.messages, config.nats.buffer.bytes),
        (10, 32 << 20)
    );
    assert_eq!(
        (
            config.api.batch.concurrency.limit,
            config.api.batch.concurrency.queue
        ),
        (2, 16)
    );
}

#[test]
fn everything_written_is_read() {
    let config = load(FULL).unwrap();
    assert_eq!(
        config.listen.data[1],
        ListenAddr::Unix("/run/natsway/http.sock".into())
    );
    assert!(!config.api.subscribe.enabled && config.api.publish.enabled && config.api.manage);
    assert_eq!(config.api.batch.body_limit, SizeLimit::Unlimited);
    assert_eq!(config.shutdown.ready_delay, Duration::ZERO);
    assert_eq!(
        config.runtime.workers,
        Workers::Count(4.try_into().unwrap())
    );
    let [create, stock, feed, history] = &config.routes[..] else {
        panic!("four routes")
    };
    let publish = create.publish.as_ref().unwrap();
    assert_eq!(
        (publish.confirm, publish.stream.as_ref().unwrap().as_str()),
        (Confirm::Stream, "ORDERS")
    );
    let rate = create.rate.as_ref().unwrap();
    assert_eq!(
        rate.limit,
        Quota {
            count: 200,
            per: Duration::from_secs(1)
        }
    );
    assert_eq!(
        (rate.burst(), &rate.key),
        (50, &RateKey::Header("x-tenant".parse().unwrap()))
    );
    assert_eq!(create.policy().timeout_max, Duration::from_secs(2));
    assert_eq!(stock.policy().when_disconnected, WhenDisconnected::Wait);
    assert_eq!(
        stock.headers.set["Order-Source"].0.as_str(),
        "web-{sku}-{query.page}"
    );
    assert_eq!(feed.policy().timeout, Duration::from_secs(10));
    assert_eq!(history.replay.as_ref().unwrap().from, ReplayFrom::All);
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let config = load(FULL).unwrap();
    let (_folder, sources) = file("natsway.json", &serde_json::to_string(&config).unwrap());
    assert_eq!(sources.load(), Ok(config));
}

#[test]
fn toml_is_read_too() {
    let (_folder, sources) = file(
        "natsway.toml",
        "[nats]\nconnections = 3\n[shutdown]\ngrace = \"5s\"\n",
    );
    let config = sources.load().unwrap();
    assert_eq!(
        (config.nats.connections, config.shutdown.grace),
        (3, Duration::from_secs(5))
    );
}

#[test]
fn later_sources_win() {
    let (_folder, mut sources) = file(
        "natsway.yaml",
        "nats: {name: file, connections: 2, servers: [\"nats://file\"]}",
    );
    sources.environment = environment(&[
        ("NATSWAY_NATS__CONNECTIONS", "3"),
        ("NATSWAY_NATS__SERVERS", "nats://env"),
        ("NATS_URL", "nats://url"),
    ]);
    let nats = sources.load().unwrap().nats;
    assert_eq!(
        (&*nats.name, nats.connections, nats.servers[0].as_str()),
        ("file", 3, "nats://env")
    );
    sources.nats = vec!["nats://flag,nats://other".to_owned()];
    sources.listen = vec!["127.0.0.1:0".to_owned()];
    let config = sources.load().unwrap();
    assert_eq!(
        config
            .nats
            .servers
            .iter()
            .map(|server| server.as_str())
            .collect::<Vec<_>>(),
        ["nats://flag", "nats://other"]
    );
    assert_eq!(config.listen.data, [ListenAddr::tcp("127.0.0.1", 0)]);
}

#[test]
fn the_environment_may_name_the_file() {
    let (_folder, named) = file("natsway.yaml", "nats: {name: file}");
    let path = named.file.unwrap();
    let sources = Sources {
        environment: environment(&[("NATSWAY_CONFIG", path.to_str().unwrap())]),
        ..Sources::default()
    };
    assert_eq!(sources.load().unwrap().nats.name, "file");
}

#[test]
fn a_file_that_is_missing_or_damaged_is_named() {
    for (name, text) in [
        ("natsway.yaml", "a: [1"),
        ("natsway.json", "{"),
        ("natsway.toml", "="),
        ("natsway.ini", ""),
    ] {
        let (_folder, sources) = file(name, text);
        let errors = sources.load().unwrap_err();
        assert!(
            errors.0.len() == 1 && errors.to_string().contains(name),
            "{errors}"
        );
    }
    let sources = Sources {
        file: Some("/nowhere/natsway.yaml".into()),
        ..Sources::default()
    };
    assert!(
        sources
            .load()
            .unwrap_err()
            .to_string()
            .contains("/nowhere/natsway.yaml")
    );
}

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

#[test]
fn a_probe_finds_the_admin_address_in_a_broken_configuration() {
    let (_folder, mut sources) = file(
        "natsway.yaml",
        "listen: { admin: \"127.0.0.1:9\" }\nnonsense: 1",
    );
    assert_eq!(sources.admin().unwrap(), ListenAddr::tcp("127.0.0.1", 9));
    sources.environment = environment(&[("NATSWAY_LISTEN__ADMIN", "unix:/tmp/admin.sock")]);
    assert_eq!(
        sources.admin().unwrap(),
        ListenAddr::Unix("/tmp/admin.sock".into())
    );
    sources.file = Some(Path::new("/nowhere.yaml").to_owned());
    assert!(sources.admin().is_err());
}

#[test]
fn a_reload_tells_what_needs_a_restart() {
    let running = Config::default();
    let new = load("nats: { name: other }\nshutdown: { grace: 5s }").unwrap();
    assert_eq!(running.needs_restart(&new), ["nats"]);
    let kept = new.keeping_restart_sections_of(&running);
    assert_eq!(
        (&*kept.nats.name, kept.shutdown.grace),
        ("natsway", Duration::from_secs(5))
    );
}

#[test]
fn a_key_given_twice_is_an_error() {
    let (_folder, sources) = file(
        "natsway.yaml",
        "shutdown: { grace: 1s }\nshutdown: { grace: 2s }",
    );
    assert!(sources.load().is_err());
}
