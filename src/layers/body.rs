//! How large a body may be, how long it may take, and that the process has room for it. All three are
//! known before the first byte is read where the client declared a length, and enforced while reading
//! where it did not; a client that waits for `100 Continue` then never sends what is refused.
//!
//! A body that is held whole is read here, before the request takes a place: a client that is slow to send
//! holds the memory it declared and nothing that others wait for. It has the request's own deadline, too:
//! the rest of the way begins when it is there, and a client that lets wait is told that, and not that NATS
//! was slow.

mod clock;
mod metered;
mod room;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use tower::Layer;

use super::memory::Budget;
use super::{Handle, Request};
use crate::config::SizeLimit;
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};
use clock::{Clock, Limit};
use metered::{Metered, collect};
use room::{FIRST, Kept, WINDOW};

pub use metered::problem_of;

/// The largest payload the NATS server takes, asked for anew for each request: it changes with the server.
#[derive(Clone)]
pub struct MaxPayload(Arc<dyn Fn() -> u64 + Send + Sync>);

impl MaxPayload {
    /// Where to ask.
    pub fn new(ask: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for MaxPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MaxPayload").field(&(self.0)()).finish()
    }
}

/// How a route takes its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Held whole, so it draws its length from the budget, and must come within the time and before the
    /// request's deadline.
    Whole(Duration),
    /// Streamed: it draws a window, and only silence is limited. The slow side may be NATS.
    Streamed(Duration),
}

/// The rules of one route.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The largest body.
    pub limit: SizeLimit,
    /// What [`SizeLimit::Auto`] means.
    pub max_payload: MaxPayload,
    /// How it is taken.
    pub intake: Intake,
    /// What the process has room for.
    pub budget: Arc<Budget>,
    /// When no more is waited for.
    pub drain: Drain,
}

impl Rules {
    fn limit(&self) -> u64 {
        match self.limit {
            SizeLimit::Auto => (self.max_payload.0)(),
            SizeLimit::Unlimited => u64::MAX,
            SizeLimit::Bytes(bytes) => bytes,
        }
    }

    /// The limit, where there is a body and its declared length is within it.
    fn admit(&self, request: &Request) -> Result<Option<u64>, Problem> {
        let hint = request.body().size_hint();
        if hint.exact() == Some(0) {
            return Ok(None);
        }
        let limit = self.limit();
        match hint.lower() > limit {
            true => Err(too_large(limit)),
            false => Ok(Some(limit)),
        }
    }

    /// Takes the body as the route does, and says what it has drawn.
    async fn take_in(&self, request: &mut Request) -> Result<Taken<'_>, Problem> {
        let Some(limit) = self.admit(request)? else {
            return Ok(Taken::default());
        };
        match self.intake {
            Intake::Whole(within) => self.read(request, limit, within).await,
            Intake::Streamed(silence) => self.meter(request, limit, silence),
        }
    }

    /// Reads it here and now, so it borrows what all workers would count references of.
    async fn read(
        &self,
        request: &mut Request,
        limit: u64,
        within: Duration,
    ) -> Result<Taken<'_>, Problem> {
        let declared = request.body().size_hint().exact();
        let first = declared.unwrap_or_else(|| FIRST.min(limit));
        let mut metered = Metered {
            limit,
            read: 0,
            room: self.budget.lend(first).ok_or_else(no_room)?,
            clock: Clock::new(Limit::Whole(within, request.deadline()), &self.drain),
            late: false,
            body: std::mem::take(request.body_mut()),
        };
        request.context.body = collect(&mut metered).await?;
        Ok(Taken {
            _kept: Kept::Whole(metered.room),
            late: metered.late,
        })
    }

    fn meter(
        &self,
        request: &mut Request,
        limit: u64,
        silence: Duration,
    ) -> Result<Taken<'_>, Problem> {
        let drawn = Arc::new(self.budget.draw(WINDOW).ok_or_else(no_room)?);
        let metered = Metered {
            limit,
            read: 0,
            room: Arc::clone(&drawn),
            clock: Clock::new(Limit::Silence(silence), self.drain.clone()),
            late: false,
            body: std::mem::take(request.body_mut()),
        };
        *request.body_mut() = Body::new(metered);
        Ok(Taken {
            _kept: Kept::Streamed(drawn),
            late: false,
        })
    }
}

/// What was drawn, and whether the body came late.
#[derive(Default)]
struct Taken<'b> {
    _kept: Kept<'b>,
    late: bool,
}

fn too_large(limit: u64) -> Problem {
    Problem::new(Code::PayloadTooLarge).limit(limit)
}

/// What somebody is told whom the process has no memory for.
#[must_use]
pub fn no_room() -> Problem {
    Problem::new(Code::Overloaded).detail("the bodies held at once have reached `memory.bodies`")
}

/// The body left little of the request's time, as an extension of the answer: that it failed says
/// nothing about whom the message was for.
#[derive(Clone, Copy, Debug)]
pub(super) struct CameLate;

/// The layer.
pub fn layer<N: Handle>(rules: Rules) -> impl Layer<N, Service = WithBody<N>> {
    tower::layer::layer_fn(move |next| WithBody {
        next,
        rules: rules.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct WithBody<N> {
    next: N,
    rules: Rules,
}

impl<N: Handle> Handle for WithBody<N> {
    async fn handle(&self, mut request: Box<Request>) -> Response {
        let taken = match self.rules.take_in(&mut request).await {
            Ok(taken) => taken,
            Err(problem) => return problem.into_response(),
        };
        let mut response = self.next.handle(request).await;
        if taken.late {
            response.extensions_mut().insert(CameLate);
        }
        response
    }
}

#[cfg(test)]
mod tests;
