//! A configuration with everything in it.

use std::time::Duration;

use super::*;
use crate::config::{
    Confirm, ListenAddr, Quota, RateKey, ReplayFrom, SizeLimit, WhenDisconnected, Workers,
};

/// Everything that may be written, with values other than the defaults where it matters.
pub(super) const FULL: &str = r#"
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
