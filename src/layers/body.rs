//! How large a body may be, how long it may take, and that the process has room for it. All three are
//! known before the first byte is read where the client declared a length, and enforced while reading
//! where it did not; a client that waits for `100 Continue` then never sends what is refused.
//!
//! A body that is held whole is read here, before the request takes a place: a client that is slow to send
//! holds the memory it declared and nothing that others wait for. It has the request's own deadline, too:
//! the rest of the way begins when it is there, and a client that lets wait is told that, and not that NATS
//! was slow.

use std::borrow::Borrow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::Layer;

use super::Handle;
use super::deadline::Deadline;
use super::memory::{Budget, Drawn};
use crate::config::SizeLimit;
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};

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

/// What a streamed body draws: what is read ahead of NATS. Its verb draws the longest line.
const WINDOW: u64 = 1 << 20;

/// What a body of undeclared length draws first, and at most ahead of what has come. It draws as much again
/// as it has, so that a small one or a slow one draws little.
const FIRST: u64 = 4 << 10;
const STEP: u64 = 64 << 10;

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

    /// Looks at what was declared, draws, and puts a meter around the body; none where there is no body.
    /// What was drawn lives as long as the returned room, which is as long as somebody may hold the payload.
    fn admit<D: Borrow<Drain>>(
        &self,
        request: &mut Request,
        drain: D,
    ) -> Result<Option<(Room, Metered<D>)>, Problem> {
        let hint = request.body().size_hint();
        if hint.exact() == Some(0) {
            return Ok(None);
        }
        let limit = self.limit();
        if hint.lower() > limit {
            return Err(too_large(limit));
        }
        let first = match (self.intake, hint.exact()) {
            (Intake::Streamed(_), _) => WINDOW,
            (Intake::Whole(_), Some(length)) => length,
            (Intake::Whole(_), None) => FIRST.min(limit),
        };
        let room = Room::new(self.budget.draw(first).ok_or_else(no_room)?);
        let metered = Metered {
            body: std::mem::take(request.body_mut()),
            limit,
            read: 0,
            room: room.clone(),
            clock: Clock::new(self.intake, Deadline::of(request), drain),
            grows: matches!(self.intake, Intake::Whole(_)),
        };
        Ok(Some((room, metered)))
    }

    /// Takes the body as the route does, and says what it has drawn.
    async fn take_in(&self, request: &mut Request) -> Result<Room, Problem> {
        match self.intake {
            // Read here and now, so it borrows what all workers would count references of.
            Intake::Whole(_) => {
                let Some((room, metered)) = self.admit(request, &self.drain)? else {
                    return Ok(Room::default());
                };
                *request.body_mut() = Body::from(collect(metered).await?);
                Ok(room)
            }
            Intake::Streamed(_) => {
                let Some((room, metered)) = self.admit(request, self.drain.clone())? else {
                    return Ok(Room::default());
                };
                *request.body_mut() = Body::new(metered);
                Ok(room)
            }
        }
    }
}

fn too_large(limit: u64) -> Problem {
    Problem::new(Code::PayloadTooLarge).limit(limit)
}

/// What somebody is told whom the process has no memory for.
#[must_use]
pub fn no_room() -> Problem {
    Problem::new(Code::Overloaded).detail("the bodies held at once have reached `memory.bodies`")
}

/// What a request has drawn, shared by its body, which may draw more, and its layer, which keeps it.
#[derive(Clone, Debug, Default)]
struct Room(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    drawn: Mutex<Drawn>,
    /// The body took most of the request's time.
    late: AtomicBool,
}

impl Room {
    fn new(drawn: Drawn) -> Self {
        Self(Some(Arc::new(Held {
            drawn: Mutex::new(drawn),
            late: AtomicBool::new(false),
        })))
    }

    fn covers(&self, bytes: u64) -> bool {
        self.0.as_ref().is_none_or(|held| {
            let mut drawn = held.drawn.lock();
            let missing = bytes.saturating_sub(drawn.bytes());
            missing == 0 || {
                let ahead = drawn.bytes().min(STEP);
                drawn.more(missing.max(ahead))
            }
        })
    }

    fn came_late(&self) {
        if let Some(held) = &self.0 {
            held.late.store(true, Ordering::Relaxed);
        }
    }

    fn is_late(&self) -> bool {
        let held = self.0.as_ref();
        held.is_some_and(|held| held.late.load(Ordering::Relaxed))
    }
}

/// The body left little of the request's time, as an extension of the answer: that it failed says
/// nothing about whom the message was for.
#[derive(Clone, Copy, Debug)]
pub(super) struct CameLate;

/// The time a body may take. The timer is made when there is something to wait for, which a small body
/// that came with its head never does.
struct Clock<D> {
    limit: Limit,
    drain: D,
    waiting: Option<Pin<Box<Waiting>>>,
}

pin_project! {
    struct Waiting {
        #[pin]
        sleep: Sleep,
        #[pin]
        expired: WaitForCancellationFutureOwned,
    }
}

#[derive(Clone, Copy)]
enum Limit {
    /// All of it within that and before the deadline; late from half of the request's time on.
    Whole(Duration, Deadline),
    /// Something within that.
    Silence(Duration),
}

impl<D: Borrow<Drain>> Clock<D> {
    fn new(intake: Intake, deadline: Deadline, drain: D) -> Self {
        let limit = match intake {
            Intake::Whole(limit) => Limit::Whole(limit, deadline),
            Intake::Streamed(limit) => Limit::Silence(limit),
        };
        Self {
            limit,
            drain,
            waiting: None,
        }
    }

    /// Why no more is waited for, once that is so. A message whose body was not there yet when natsway
    /// had to end was not sent, and only here is that known; of a streamed body a part was.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Problem> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let at = match self.limit {
                Limit::Whole(limit, deadline) => deadline.at.min(Instant::now() + limit),
                Limit::Silence(limit) => Instant::now() + limit,
            };
            Box::pin(Waiting {
                sleep: sleep_until(at),
                expired: self.drain.borrow().expired_owned(),
            })
        });
        let waiting = waiting.as_mut().project();
        if matches!(self.limit, Limit::Whole(..)) && waiting.expired.poll(cx).is_ready() {
            return Poll::Ready(
                Problem::new(Code::ShuttingDown)
                    .detail("natsway had to end before the body was complete"),
            );
        }
        waiting
            .sleep
            .poll(cx)
            .map(|()| Problem::new(Code::BodyTimeout))
    }

    /// Something came; true where it came late.
    fn moved(&mut self) -> bool {
        match self.limit {
            Limit::Whole(_, deadline) => self.waiting.is_some() && deadline.is_half_over(),
            Limit::Silence(_) => {
                self.waiting = None;
                false
            }
        }
    }
}

struct Metered<D> {
    body: Body,
    limit: u64,
    read: u64,
    room: Room,
    clock: Clock<D>,
    grows: bool,
}

impl<D: Borrow<Drain>> Metered<D> {
    fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        if self.clock.moved() {
            self.room.came_late();
        }
        self.read += bytes as u64;
        if self.read > self.limit {
            return Err(too_large(self.limit));
        }
        if self.grows && !self.room.covers(self.read) {
            return Err(no_room());
        }
        Ok(())
    }
}

/// A problem on its way through axum's body error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(Problem);

fn refused(problem: Problem) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    Poll::Ready(Some(Err(axum::Error::new(Refused(problem)))))
}

impl<D: Borrow<Drain> + Unpin> http_body::Body for Metered<D> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                match this.count(frame.data_ref().map_or(0, Bytes::len)) {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(problem) => refused(problem),
                }
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => refused(ready!(this.clock.poll_over(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What an error of a body means to the client.
#[must_use]
pub fn problem_of(error: axum::Error) -> Problem {
    let mut inner = error.into_inner();
    // Every body that wraps another wraps its error, too.
    while inner.is::<axum::Error>() {
        match inner.downcast::<axum::Error>() {
            Ok(wrapped) => inner = wrapped.into_inner(),
            Err(other) => inner = other,
        }
    }
    match inner.downcast::<Refused>() {
        Ok(refused) => refused.0,
        Err(_) => Problem::new(Code::InvalidBody).detail("the body ended before it was complete"),
    }
}

/// Reads a body to its end. One that came in one piece is not copied.
///
/// # Errors
/// When it is too large, too slow or cut short.
pub async fn collect(
    mut body: impl http_body::Body<Data = Bytes, Error = axum::Error> + Unpin,
) -> Result<Bytes, Problem> {
    let Some(first) = next_data(&mut body).await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next_data(&mut body).await? else {
        return Ok(first);
    };
    let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(first.len() + second.len() + rest);
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(data) = next_data(&mut body).await? {
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn next_data(
    body: &mut (impl http_body::Body<Data = Bytes, Error = axum::Error> + Unpin),
) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        // Trailers mean nothing to a message.
        if let Ok(data) = frame.map_err(problem_of)?.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

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
        match self.rules.take_in(&mut request).await {
            Ok(room) => {
                let mut response = self.next.handle(request).await;
                if room.is_late() {
                    response.extensions_mut().insert(CameLate);
                }
                response
            }
            Err(problem) => problem.into_response(),
        }
    }
}

#[cfg(test)]
mod tests;
