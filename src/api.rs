//! What HTTP callers can do with NATS: one verb, one file.
//!
//! A verb is a struct that is prepared once, when routes are built, and one handler with the same five
//! movements everywhere: extract, authorise, translate, call, respond. Built-in endpoints and declared
//! routes are the same verbs; what differs between them is data in the struct.

pub mod answer;
pub mod batch;
pub mod body;
pub mod deliveries;
pub mod jetstream;
pub mod multiplex;
pub mod ndjson;
pub mod notice;
pub mod publish;
pub mod query;
pub mod recipe;
pub mod request;
mod sending;
pub mod session;
pub mod sse;
pub mod stream_body;
pub mod subscribe;
pub mod websocket;
