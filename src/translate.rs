//! From HTTP to NATS and back, without any I/O: what goes in is bytes and headers, what comes out is
//! bytes and headers.

pub mod batch_line;
pub mod envelope;
pub mod headers;
mod json;
pub mod sse;
mod traceparent;

pub use json::{JsonText, embeddable as is_embeddable_json};
pub use traceparent::is_traceparent;
