//! Many replies as a body of lines, each as it comes.
//!
//! A task takes them from NATS whether the client reads or not, because only so is it known how much of
//! them is held, and that the time is over. Each line is paid for until it is written; a client that is
//! too far behind gets what was held for it, and the reason.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::collect::{Collect, End};
use super::many::{REPLIES_MAX, write};
use super::{no_room_for_reply, written_down};
use crate::layers::memory::{Budget, Drawn};
use crate::lifecycle::Drain;
use crate::nats::{Failure, Reply};
use crate::problem::Problem;
use crate::telemetry::metrics::Gauge;

/// How much of the replies to one request may wait for its client.
const WAITING_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What was drawn for a line, of what the request may hold and of what the process may.
type Paid = (Option<Drawn>, Drawn);

/// A line, with what was drawn for it.
struct Line {
    bytes: Bytes,
    _drawn: Option<Paid>,
}

struct Lines {
    waiting: mpsc::Receiver<Line>,
    /// On its way to the socket.
    last: Option<Line>,
    /// Ends with the body.
    _pump: JoinSet<()>,
}

/// The body; `first` has come already.
///
/// # Errors
/// When there is no room for it, for the head says that there is a reply.
pub(super) fn body(
    first: Result<Reply, End>,
    collect: Collect,
    bodies: &Arc<Budget>,
    drain: Drain,
) -> Result<Body, Problem> {
    // Room for all there can be, and for the end.
    let (lines, waiting) = mpsc::channel(REPLIES_MAX + 1);
    let pump = Pump {
        collect,
        lines,
        bodies: Arc::clone(bodies),
        own: Budget::new(WAITING_BYTES_MAX, Gauge::default()),
    };
    let first = match first {
        Ok(reply) => Ok(pump.line_of(reply).map_err(|_| no_room_for_reply())?),
        Err(end) => Err(end),
    };
    let mut task = JoinSet::new();
    task.spawn(pump.run(first, drain));
    Ok(Body::new(Lines {
        waiting,
        last: None,
        _pump: task,
    }))
}

struct Pump {
    collect: Collect,
    lines: mpsc::Sender<Line>,
    bodies: Arc<Budget>,
    own: Arc<Budget>,
}

impl Pump {
    async fn run(mut self, first: Result<(Bytes, Paid), End>, drain: Drain) {
        let end = tokio::select! {
            biased;
            end = self.pump(first) => end,
            () = drain.expired() => End::Draining,
        };
        let notice = format!("{{\"notice\":\"end\",\"reason\":\"{}\"}}\n", end.as_str());
        self.put(notice.into(), None).await;
    }

    async fn pump(&mut self, first: Result<(Bytes, Paid), End>) -> End {
        let mut next = first;
        loop {
            match next {
                Ok((line, drawn)) => self.put(line, Some(drawn)).await,
                Err(end) => return end,
            }
            next = match self.collect.next().await {
                Ok(next) => next.and_then(|reply| self.line_of(reply)),
                Err(failure) => return end_of(failure),
            };
        }
    }

    fn line_of(&self, reply: Reply) -> Result<(Bytes, Paid), End> {
        // One place is for the notice.
        if self.lines.capacity() <= 1 {
            return Err(End::SlowClient);
        }
        let Reply { message, held } = reply;
        let held = (message.payload.len(), held);
        let written = written_down(held, &self.bodies, || {
            let mut line = Vec::new();
            write(&message, &mut line);
            line.push(b'\n');
            line
        });
        let (line, shared) = written.ok_or(End::Overloaded)?;
        let own = self.own.draw(line.len() as u64);
        // A single one fits always, however large.
        let is_alone = self.lines.capacity() == self.lines.max_capacity();
        match own.is_some() || is_alone {
            true => Ok((line.into(), (own, shared))),
            false => Err(End::SlowClient),
        }
    }

    async fn put(&self, bytes: Bytes, drawn: Option<Paid>) {
        let line = Line {
            bytes,
            _drawn: drawn,
        };
        // The body is gone only with this task.
        let _ = self.lines.send(line).await;
    }
}

/// A line is the only thing that can still be said.
const fn end_of(failure: Failure) -> End {
    match failure {
        Failure::TooManyReplies => End::SlowClient,
        Failure::Timeout | Failure::NotSentInTime => End::Timeout,
        _ => End::Disconnected,
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.last = None;
        self.last = ready!(self.waiting.poll_recv(cx));
        let bytes = self.last.as_ref().map(|line| line.bytes.clone());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
