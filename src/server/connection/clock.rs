//! The clock of a connection: when it has been silent for too long, when natsway ends, and when a request has
//! to be polled again.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFuture;

use crate::lifecycle::Drain;
use crate::server::pace::Pace;
use crate::telemetry::metrics::Rejections;
use crate::wake::Deadlines;

/// How long an idle HTTP/1.1 connection stays open after the drain began: a client that is just
/// sending its next request gets an answer with `Connection: close` instead of a reset.
const LINGER: Duration = Duration::from_millis(500);

/// How long a connection that was told to finish may take to close.
const FINISH: Duration = Duration::from_secs(1);

/// What a connection's clock wants of it.
pub(super) enum Verdict {
    /// A request's deadline has come.
    Again,
    /// The silence lasted too long: close as the protocol wants it.
    Finish,
    /// It did not close in time, or a write is stuck.
    Close,
}

pin_project! {
    /// One timer a connection, moved only when it fires too early or a deadline comes nearer. Under
    /// load nothing is moved: a request costs two atomic stores and a comparison, not a timer. A deadline that
    /// was met fires all the same, for one more look in each span of a timeout.
    pub(super) struct Clock<'a> {
        #[pin]
        sleep: Sleep,
        is_set: bool,
        // First of new work, then of the grace.
        #[pin]
        end: WaitForCancellationFuture<'a>,
        drain: &'a Drain,
        pace: &'a Pace,
        ends_seen: u8,
        waits: bool,
        rejections: &'a Rejections,
        // When it has to be closed, where it was told to finish.
        finish_by: Option<Instant>,
        requests: Deadlines,
    }
}

impl<'a> Clock<'a> {
    pub(super) fn new(pace: &'a Pace, drain: &'a Drain, rejections: &'a Rejections) -> Self {
        let first = pace
            .deadline()
            .unwrap_or_else(|| Instant::now() + pace.recheck());
        Self {
            sleep: sleep_until(first),
            is_set: false,
            end: drain.draining(),
            drain,
            pace,
            ends_seen: 0,
            waits: false,
            rejections,
            finish_by: None,
            requests: Deadlines::default(),
        }
    }

    /// Whether the connection is to finish what it does: the drain has just begun, or its grace is
    /// just over and requests that still wait are to be polled once more. An idle one is left a moment.
    pub(super) fn poll_drain(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        // Whoever waits already is woken; to ask again would be a lock for every request.
        if *this.waits && this.drain.ends_begun() == *this.ends_seen {
            return false;
        }
        *this.waits = true;
        let mut finishes = false;
        while *this.ends_seen < 2 && this.end.as_mut().poll(cx).is_ready() {
            *this.ends_seen += 1;
            this.end.set(this.drain.expired());
            match this.pace.is_busy() || this.pace.is_http2() {
                true => finishes = true,
                false => this.pace.hurry(LINGER),
            }
        }
        finishes
    }

    /// Polls the connection, and collects by when its requests have to be polled again.
    pub(super) fn round<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        self.project().requests.round(cx, poll)
    }

    pub(super) fn poll_verdict(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            let next = self.next();
            let mut this = self.as_mut().project();
            if let Some(next) = next
                && next < this.sleep.deadline()
            {
                this.sleep.as_mut().reset(next);
                *this.is_set = false;
            }
            // As above: a timer that is set needs no second look until it has fired.
            if *this.is_set && !this.sleep.is_elapsed() {
                return Poll::Pending;
            }
            *this.is_set = true;
            // Whatever else this turn has done: a timer that is not set is not looked at again.
            ready!(pin!(unconstrained(this.sleep.as_mut())).poll(cx));
            *this.is_set = false;
            let now = Instant::now();
            let verdict = self.as_mut().judge(now);
            let next = self.next().unwrap_or_else(|| now + self.pace.recheck());
            self.as_mut().project().sleep.reset(next);
            if let Some(verdict) = verdict {
                return Poll::Ready(verdict);
            }
        }
    }

    /// When something is to be done, as far as anybody knows now.
    fn next(&self) -> Option<Instant> {
        let own = self.finish_by.or_else(|| self.pace.deadline());
        match (own, self.requests.nearest()) {
            (Some(own), Some(request)) => Some(own.min(request)),
            (own, request) => own.or(request),
        }
    }

    fn judge(self: Pin<&mut Self>, now: Instant) -> Option<Verdict> {
        let this = self.project();
        let pace = *this.pace;
        if this.requests.look(now) {
            return Some(Verdict::Again);
        }
        // A request may have slipped in while the connection was told to finish.
        let late = this.finish_by.take_if(|by| *by <= now).is_some() && !pace.is_busy();
        if late || pace.is_stalled() {
            return Some(Verdict::Close);
        }
        if this.finish_by.is_some() || pace.deadline().is_none_or(|deadline| deadline > now) {
            return None;
        }
        if *this.ends_seen == 0 && pace.waits_for_head() {
            this.rejections.header_timeout.inc();
        }
        *this.finish_by = Some(now + FINISH);
        Some(Verdict::Finish)
    }
}

#[cfg(test)]
mod tests;
