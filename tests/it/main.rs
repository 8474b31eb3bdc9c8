//! The one integration binary: one link step, one harness.
//!
//! A test gets a nats-server and a natsway of its own, both real processes on free ports, so tests
//! run in parallel. What needs the machine for itself (faults under load, memory) lives in
//! `serial`, which `make test` runs afterwards on one thread.
#![allow(clippy::large_futures, reason = "a test is one big future")]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as a test does"
)]

mod acks;
mod admin;
mod allocations;
mod batch;
mod breaker;
mod browser;
mod config;
mod deleted;
mod fetch;
mod harness;
mod jetstream_errors;
mod layering;
mod layers;
mod links;
mod matrix;
mod messages;
mod multiplex;
mod ndjson;
mod openapi;
mod permissions;
mod places;
mod policy_vectors;
mod publish;
mod rate;
mod readme;
mod reload;
mod replay;
mod request;
mod serial;
mod server;
mod shutdown;
mod sse;
mod stored_poison;
mod strange_subjects;
mod stream_life;
mod streams;
mod subscribe;
mod telemetry;
mod tools;
mod torture;
mod vanished;
mod websocket;
mod workers;
mod zero_config;
