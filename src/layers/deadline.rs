//! When a request must be answered: its own `timeout`, within the route's `timeout_max`, counted from its
//! head. Known before the queue, because waiting there is part of it, and handed down to NATS as a value.
//!
//! The layer does not cut a handler off at the deadline: the handler waits on nothing else, and only it
//! knows what became of the message. What it does cut off is what still waits when the shutdown's grace
//! period is over, after the handler was asked once more: it may know then ([`before_the_end`]).

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tower::Layer;

use super::context::Context;
use super::{Handle, Request};
use crate::lifecycle::Drain;
use crate::problem::{Code, Outcome, Problem};
use crate::translate::duration;
use crate::translate::query::pairs;

/// The deadline of a request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When the answer (of a stream: its head) must be there.
    pub at: Instant,
    /// How long that is from the request's head.
    pub timeout: Duration,
}

impl Deadline {
    /// Whether less than half of the time is left.
    #[must_use]
    pub fn is_half_over(&self) -> bool {
        self.left() <= self.timeout / 2
    }

    /// So much from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + timeout,
            timeout,
        }
    }

    /// Of a request as axum knows it.
    #[must_use]
    pub fn of(request: &http::Request<Body>) -> Self {
        Self::or_default(Context::in_extensions(request.extensions()).deadline)
    }

    /// The one that the layer has set, which every stack has.
    pub(super) fn or_default(own: Option<Self>) -> Self {
        debug_assert!(own.is_some(), "the deadline layer is outside this one");
        own.unwrap_or_else(|| Self::after(Duration::from_secs(5)))
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// What a route allows.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a request that names none.
    pub default: Duration,
    /// The longest one a request may name.
    pub max: Duration,
}

impl Timeouts {
    fn of(self, query: Option<&str>) -> Result<Duration, Problem> {
        let Some(text) = parameter(query.unwrap_or_default())? else {
            return Ok(self.default);
        };
        let wrong = |detail: String| Problem::new(Code::InvalidParameter).detail(detail);
        let timeout = duration::parse(&text).map_err(|error| wrong(format!("timeout: {error}")))?;
        if timeout.is_zero() {
            return Err(wrong("timeout: must be longer than 0".to_owned()));
        }
        if timeout > self.max {
            let limit = format!("{}ms", self.max.as_millis());
            return Err(wrong("timeout: longer than this route allows".to_owned()).limit(limit));
        }
        Ok(timeout)
    }
}

fn parameter(query: &str) -> Result<Option<Cow<'_, str>>, Problem> {
    let mut values = pairs(query).filter(|(name, _)| *name == "timeout");
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Problem::new(Code::InvalidParameter).detail("timeout: given twice"));
    }
    Ok(first.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy()))
}

/// The layer.
pub fn layer<N: Handle>(
    timeouts: Timeouts,
    drain: &Drain,
) -> impl Layer<N, Service = WithDeadline<N>> {
    let drain = drain.clone();
    tower::layer::layer_fn(move |next| WithDeadline {
        next,
        timeouts,
        drain: drain.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct WithDeadline<N> {
    next: N,
    timeouts: Timeouts,
    drain: Drain,
}

impl<N: Handle> Handle for WithDeadline<N> {
    async fn handle(&self, mut request: Box<Request>) -> Response {
        let timeout = match self.timeouts.of(request.uri().query()) {
            Ok(timeout) => timeout,
            Err(problem) => return problem.into_response(),
        };
        let context = &mut request.context;
        let began = context.began.unwrap_or_else(Instant::now);
        context.deadline = Some(Deadline {
            at: began + timeout,
            timeout,
        });
        let waits = !context.is_polled_at_the_end;
        let mut answer = pin!(self.next.handle(request));
        // Boxed: of a connection of HTTP/1.1 nobody waits for it.
        let mut expired = waits.then(|| Box::pin(self.drain.expired()));
        poll_fn(|cx| {
            loop {
                // Asked before the handler is, so that the handler has seen the end as well.
                let is_over = self.drain.is_expired();
                if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                    return Poll::Ready(response);
                }
                if is_over {
                    return Poll::Ready(cut_off().into_response());
                }
                let expired = expired.as_mut().map(|expired| expired.as_mut().poll(cx));
                if expired.is_none_or(|expired| expired.is_pending()) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

/// What somebody is told who was in the middle of it when the grace was over: whether the message arrived
/// is not known.
#[must_use]
pub fn cut_off() -> Problem {
    Problem::new(Code::ShuttingDown)
        .detail("natsway had to end before there was an answer")
        .outcome(Outcome::Unknown)
}

/// What comes of it before the grace of the shutdown is over; else nothing, for a verb that can say more
/// than [`cut_off`]. It wakes nobody at the end: whoever polls what is in flight polls all of it once more
/// then.
pub async fn before_the_end<T>(
    mut what: Pin<&mut impl Future<Output = T>>,
    drain: &Drain,
) -> Option<T> {
    poll_fn(|cx| match what.as_mut().poll(cx) {
        Poll::Ready(came) => Poll::Ready(Some(came)),
        Poll::Pending if drain.is_expired() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        default: Duration::from_secs(5),
        max: Duration::from_secs(30),
    };

    #[test]
    fn a_request_names_its_timeout_within_the_routes_limit() {
        for (query, millis) in [
            (None, 5000),
            (Some(""), 5000),
            (Some("confirm=none"), 5000),
            (Some("timeout=250ms"), 250),
            (Some("confirm=none&timeout=30s"), 30_000),
            (Some("mytimeout=1s"), 5000),
        ] {
            let timeout = TIMEOUTS.of(query).unwrap();
            assert_eq!(timeout, Duration::from_millis(millis), "{query:?}");
        }
    }

    #[test]
    fn what_is_no_timeout_is_refused() {
        for query in [
            "timeout",
            "timeout=",
            "timeout=5",
            "timeout=0s",
            "timeout=31s",
            "timeout=1s&timeout=2s",
            "timeout=-1s",
            "timeout=%00",
        ] {
            let problem = TIMEOUTS.of(Some(query)).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidParameter, "{query}");
        }
        let body = TIMEOUTS.of(Some("timeout=31s")).unwrap_err().to_json(None);
        assert_eq!(body["limit"], "30000ms");
    }
}
