//! Who is at the other end of one connection, and what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use bytes::Bytes;

use super::frame::{Content, Id};
use super::limits::Turnstile;
use super::{Multiplex, answer};
use crate::layers::access_log::Frames;
use crate::layers::context::Context;
use crate::layers::peer::Peer;
use crate::layers::rate::Key;
use crate::layers::request_id::RequestId;
use crate::problem::{Code, Problem};
use crate::telemetry::traces::{Origin, Remote, Tracer};

/// The client of one connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The id of the request that opened the connection.
    request_id: Option<RequestId>,
    peer: Option<Arc<Peer>>,
    problems: Frames,
    /// Its publishes and requests in their order.
    pub(super) turnstile: Arc<Turnstile>,
    /// What its publishes are taken from.
    pub(super) publish_rate: Option<Key>,
    /// What its requests are taken from.
    pub(super) request_rate: Option<Key>,
    tracer: Option<Tracer>,
    /// What new traces are linked to.
    opening: Option<Remote>,
    /// Whether it has left, and is told of nothing any more.
    has_left: Arc<AtomicBool>,
}

impl Caller {
    /// Who sent the handshake.
    pub(super) fn of(request: &Request, verb: &Multiplex) -> Self {
        let publishing = verb.publishing.as_ref().map(|verb| &verb.limits);
        let requesting = verb.requesting.as_ref().map(|verb| &verb.limits);
        let context = Context::in_extensions(request.extensions());
        Self {
            request_id: context.id.clone(),
            peer: context.peer.clone(),
            problems: verb.problems.clone(),
            turnstile: Arc::default(),
            publish_rate: publishing.and_then(|limits| limits.key_of(request)),
            request_rate: requesting.and_then(|limits| limits.key_of(request)),
            opening: verb
                .tracer
                .as_ref()
                .and_then(|tracer| tracer.opening(request)),
            tracer: verb.tracer.clone(),
            has_left: Arc::default(),
        }
    }

    /// Where the span of a frame's message belongs, where it is traced.
    pub(super) fn origin(&self, content: &Content) -> Option<Origin> {
        let tracer = self.tracer.as_ref()?;
        tracer.of_frame(Remote::publisher(content.headers.as_ref()), self.opening)
    }

    /// Its operations go on, but whatever becomes of them, nobody is told.
    pub(super) fn leaves(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    /// The frame for a problem, which is counted and logged as if it were an answer of its own, or as a
    /// request whose client has left.
    pub(super) fn error(&self, id: Option<&Id>, problem: &Problem) -> Bytes {
        let (opening, peer) = (self.request_id.as_ref(), self.peer.as_deref());
        match self.has_left.load(Ordering::Relaxed) {
            false => self.problems.problem(problem, opening, peer),
            true => {
                let left = Problem::new(Code::ClientClosed);
                self.problems.problem(&left, opening, peer);
            }
        }
        answer::error(id, problem, opening.map(RequestId::to_text).as_deref())
    }
}
