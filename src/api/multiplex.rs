//! `GET /v1/ws`: many subscriptions, publishes and requests over one WebSocket.
//!
//! One task a connection: it reads a frame, polls what is in flight and writes answers, and nothing
//! is queued between the three. With too much in flight it does not read, and a client that does not
//! read is not read from either.

mod answer;
mod begin;
mod caller;
mod connection;
mod frame;
mod limits;
mod operations;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;

use super::query::{Params, Query};
use super::session::Session;
use super::stream_body::Lifetimes;
use super::subscribe::Defaults;
use super::websocket::Upgrade;
use crate::layers::access_log::Frames;
use crate::layers::memory::Budget;
use crate::problem::Problem;
use crate::telemetry::traces::Tracer;

pub use limits::Limits;
pub use operations::{Publishing, Requesting};

/// The name of the subprotocol.
pub const PROTOCOL: &str = "natsway.v1";
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Operations in flight on one connection; then natsway stops reading.
pub const OPERATIONS_MAX: usize = 256;
/// What a frame may have beside a payload as large as NATS takes.
const FRAME_OVERHEAD_BYTES: usize = 64 * 1024;

/// The verb.
#[derive(Debug)]
pub struct Multiplex {
    /// What subscriptions may reach.
    pub session: Session,
    /// What a subscription that does not say gets.
    pub defaults: Defaults,
    /// How long a subscription may take to open.
    pub timeout: Duration,
    /// What publishes may do.
    pub publishing: Option<Arc<Publishing>>,
    /// What requests may do.
    pub requesting: Option<Arc<Requesting>>,
    /// What frames in flight are drawn from, as the bodies of requests are.
    pub bodies: Arc<Budget>,
    /// Where problems in frames are counted and logged.
    pub problems: Frames,
    /// What all streams have in common.
    pub lifetimes: Lifetimes,
    /// What decides which publishes and requests are traced, and which contexts go on.
    pub tracer: Option<Tracer>,
}

/// The handler.
///
/// # Errors
/// When the request is no WebSocket handshake.
pub async fn handle(
    State(verb): State<Arc<Multiplex>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &Params::built_in(&["timeout"]))?;
    let caller = caller::Caller::of(&request, &verb);
    let (mut parts, _body) = request.into_parts();
    let upgrade = Upgrade::of(&mut parts).await?.protocol(PROTOCOL);
    let upgrade = upgrade.paid_from(&verb.bodies);
    let frame_max = verb.session.nats().max_payload() + FRAME_OVERHEAD_BYTES;
    let lifetimes = verb.lifetimes.clone();
    Ok(upgrade.accept(frame_max, &lifetimes, move |socket| {
        connection::serve(socket, verb, caller)
    }))
}
