//! JetStream over plain HTTP.
//!
//! JetStream's API is JSON over requests to `$JS.API.…`, and that is what natsway speaks: [`Api`]
//! sends one and says what became of it. Nothing here holds state that a restart would lose: what an
//! ack needs travels in its token.

mod api;
mod backoff;
mod no_responders;
mod pub_ack;
mod store;
pub mod versions;

pub use api::Api;
pub use pub_ack::PubAck;
