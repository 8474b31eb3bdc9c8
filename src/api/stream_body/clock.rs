//! When a stream is silent for too long, and when it has to end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Lifetimes;
use crate::api::notice::EndReason;
use crate::lifecycle::Drain;
use crate::telemetry::metrics::StreamEnds;
use crate::wake;

/// What a stream's clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// It was silent for too long.
    KeepAlive,
    /// It must end.
    End(EndReason),
}

/// The clock of one stream. It is not moved by every write but looks, when it is time, how long it has
/// really been silent; where the task that polls it has a timer, it needs none.
pub struct Clock {
    drain: Drain,
    own: Option<Pin<Box<Own>>>,
    quiet_since: Instant,
    keep_alive: Duration,
    ends: Option<Instant>,
    ending: Ending,
}

pin_project! {
    /// What wakes a task that nobody else wakes, such as a WebSocket's.
    struct Own {
        #[pin]
        sleep: Sleep,
        #[pin]
        draining: WaitForCancellationFutureOwned,
    }
}

/// Counts the end of its stream when it is dropped.
struct Ending {
    counted: StreamEnds,
    reason: &'static str,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.counted.count(self.reason);
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

impl Clock {
    pub(super) fn begin(lifetimes: &Lifetimes) -> Self {
        let now = Instant::now();
        Self {
            drain: lifetimes.drain.clone(),
            own: None,
            quiet_since: now,
            keep_alive: lifetimes.keep_alive,
            ends: lifetimes.max_age.map(|age| now + jittered(age)),
            ending: Ending {
                counted: lifetimes.ends.clone(),
                reason: "client-gone",
            },
        }
    }

    /// Says that something was written.
    pub const fn wrote(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// Says that natsway ends the stream; otherwise its client did.
    pub const fn ends_because(&mut self, reason: EndReason) {
        self.ends_for(reason.as_str());
    }

    /// The same for what is no end notice: a close code says it.
    pub const fn ends_for(&mut self, reason: &'static str) {
        self.ending.reason = reason;
    }

    /// The next tick.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Tick> {
        loop {
            if self.drain.is_draining() {
                return Poll::Ready(Tick::End(EndReason::Draining));
            }
            ready!(self.poll_next(cx));
            let now = Instant::now();
            if self.ends.is_some_and(|ends| ends <= now) {
                return Poll::Ready(Tick::End(EndReason::MaxAge));
            }
            if self.quiet_since + self.keep_alive <= now {
                self.quiet_since = now;
                return Poll::Ready(Tick::KeepAlive);
            }
        }
    }

    /// Ready when there may be a tick.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sign_of_life = self.quiet_since + self.keep_alive;
        let next = self
            .ends
            .map_or(sign_of_life, |ends| ends.min(sign_of_life));
        match wake::come_or_collected(next, cx.waker()) {
            Some(true) => Poll::Ready(()),
            // The task polls when the drain begins, too.
            Some(false) => Poll::Pending,
            None => self.poll_own(next, cx),
        }
    }

    fn poll_own(&mut self, next: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let own = self.own.get_or_insert_with(|| {
            Box::pin(Own {
                sleep: sleep_until(next),
                draining: self.drain.draining_owned(),
            })
        });
        let mut own = own.as_mut().project();
        if own.draining.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        ready!(own.sleep.as_mut().poll(cx));
        // It was not moved when something was written.
        if own.sleep.deadline() < next {
            own.sleep.as_mut().reset(next);
            return own.sleep.poll(cx);
        }
        Poll::Ready(())
    }
}

/// A little less than the age, so that streams opened together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.8..=1.0))
}
