//! From HTTP to NATS and back, without any I/O: what goes in is bytes and headers, what comes out is
//! bytes and headers.

pub mod headers;
mod traceparent;

pub use traceparent::is_traceparent;
