//! From HTTP to NATS and back, without any I/O: what goes in is bytes and headers, what comes out is
//! bytes and headers.

pub mod ack_token;
pub mod batch_line;
pub mod duration;
pub mod envelope;
pub mod headers;
mod json;
pub mod lines;
pub mod position;
pub mod query;
pub mod service_error;
pub mod size;
pub mod sse;
mod traceparent;

pub use json::{JsonText, embeddable as is_embeddable_json};
pub use traceparent::{
    ClientContext, ContextHeader, is_traceparent, sampled_traceparent, trace_ids,
};
