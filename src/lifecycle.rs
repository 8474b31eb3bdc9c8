//! When natsway is ready, when it drains, and in which order it ends.
//!
//! There is one way through: *starting* → *serving* → *leaving* → *draining* → *expired*. Nothing goes
//! back, so everybody who reads the phase sees the same story:
//!
//! | phase | readiness | new connections | requests | streams |
//! | --- | --- | --- | --- | --- |
//! | starting | 503 | served | served (503 `nats-disconnected` while NATS is away) | served |
//! | serving | 200 | served | served | served |
//! | leaving (`shutdown.ready_delay`) | 503 | served | served, `Connection: close` | served |
//! | draining (`shutdown.grace`) | 503 | refused | those in flight finish | end with reason `draining` |
//! | expired | 503 | refused | answered 503 `shutting-down` | cut |
//!
//! Readiness turns first and alone, because a load balancer needs time to notice: a connection refused
//! before it has noticed is a failed request that nobody had to lose. One deadline covers everything
//! after it, and the last part of that deadline is kept for NATS and telemetry ([`Timing::reserve`]).

mod signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{
    CancellationToken, WaitForCancellationFuture, WaitForCancellationFutureOwned,
};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use signals::{Signal, Signals};

/// Where natsway is on its one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not yet connected once.
    Starting,
    /// Ready.
    Serving,
    /// Not ready any more, but serving, until load balancers have noticed.
    Leaving,
    /// No new connections; what is in flight finishes, streams end.
    Draining,
    /// The grace period is over: whatever still waits is answered 503.
    Expired,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Starting,
        Self::Serving,
        Self::Leaving,
        Self::Draining,
        Self::Expired,
    ];
}

/// How natsway ended, for the log and the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything in flight was answered by its own handler.
    Drained,
    /// The grace period ran out; what was left was answered 503 or cut.
    GraceExpired,
    /// A second signal asked not to wait.
    Forced,
}

impl Ending {
    /// The sentence in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "everything in flight was answered",
            Self::GraceExpired => "the grace period ran out with requests in flight",
            Self::Forced => "a second signal asked not to wait",
        }
    }
}

/// The shutdown's clock.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long natsway serves after readiness has turned.
    pub ready_delay: Duration,
    /// How long requests in flight may take after that.
    pub grace: Duration,
}

impl Timing {
    /// The end of the grace period that is kept back, so that the last answers are written, NATS is
    /// drained and telemetry is flushed before an orchestrator's SIGKILL.
    #[must_use]
    pub fn reserve(&self) -> Duration {
        (self.grace / 5).min(Duration::from_secs(2))
    }
}

#[derive(Debug)]
struct Inner {
    phase: AtomicU8,
    leaving: CancellationToken,
    draining: CancellationToken,
    expired: CancellationToken,
    work: TaskTracker,
}

/// The owner's side: it moves the phases on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// Starts in [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                phase: AtomicU8::new(Phase::Starting as u8),
                leaving: CancellationToken::new(),
                draining: CancellationToken::new(),
                expired: CancellationToken::new(),
                work: TaskTracker::new(),
            }),
        }
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.inner.phase.load(Ordering::Acquire))]
    }

    /// Says that NATS was connected once and a round trip passed. A latch: a later outage does not
    /// turn it, and after the shutdown began it has no effect.
    pub fn connected_once(&self) {
        let _ = self.inner.phase.compare_exchange(
            Phase::Starting as u8,
            Phase::Serving as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// What `/readyz` says.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// The handle for everybody who must end in time.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain {
            inner: Arc::clone(&self.inner),
        }
    }

    /// Readiness turns; nothing else changes.
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
        self.inner.leaving.cancel();
    }

    /// New connections are refused, streams are told to end.
    pub fn start_draining(&self) {
        self.leave();
        self.advance(Phase::Draining);
        self.inner.draining.cancel();
        self.inner.work.close();
    }

    /// Whatever still waits is to be answered 503 now.
    pub fn expire(&self) {
        self.start_draining();
        self.advance(Phase::Expired);
        self.inner.expired.cancel();
    }

    /// Resolves when all work that holds a token has ended, after [`Self::start_draining`].
    pub async fn idle(&self) {
        self.inner.work.wait().await;
    }

    /// The phases up to the point where no request is in flight: readiness, delay, drain, expiry.
    /// `signals` is watched all the time: another one means not to wait.
    pub async fn shut_down(&self, timing: Timing, signals: &mut Signals) -> Ending {
        tokio::select! {
            ending = self.run_phases(timing) => ending,
            () = signals.terminate() => {
                self.expire();
                Ending::Forced
            }
        }
    }

    async fn run_phases(&self, timing: Timing) -> Ending {
        self.leave();
        tokio::time::sleep(timing.ready_delay).await;
        let end = Instant::now() + timing.grace;
        self.start_draining();
        if tokio::time::timeout_at(end - timing.reserve(), self.idle())
            .await
            .is_ok()
        {
            return Ending::Drained;
        }
        self.expire();
        // Half of what was kept back is for writing the last answers, half for NATS and telemetry.
        let _ = tokio::time::timeout_at(end - timing.reserve() / 2, self.idle()).await;
        Ending::GraceExpired
    }

    fn advance(&self, to: Phase) {
        self.inner.phase.fetch_max(to as u8, Ordering::AcqRel);
    }
}

/// The other side: what connections, streams and handlers await. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    inner: Arc<Inner>,
}

impl Drain {
    /// Resolves when readiness has turned.
    pub async fn leaving(&self) {
        self.inner.leaving.cancelled().await;
    }

    /// Resolves when streams are to end with reason `draining`.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.inner.draining.cancelled()
    }

    /// The same for something that is kept, such as a stream's body.
    pub fn draining_owned(&self) -> WaitForCancellationFutureOwned {
        self.inner.draining.clone().cancelled_owned()
    }

    /// Resolves when whatever still waits is to be answered 503.
    pub fn expired(&self) -> WaitForCancellationFuture<'_> {
        self.inner.expired.cancelled()
    }

    /// The same for something that is kept, such as a request's body.
    pub fn expired_owned(&self) -> WaitForCancellationFutureOwned {
        self.inner.expired.clone().cancelled_owned()
    }

    /// Whether clients should look for another replica.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.has_reached(Phase::Leaving)
    }

    /// Whether streams are to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.has_reached(Phase::Draining)
    }

    /// Whether the grace period is over.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.has_reached(Phase::Expired)
    }

    /// How many of the two ends that a connection heeds have begun: of new work, and of the grace.
    #[must_use]
    pub fn ends_begun(&self) -> u8 {
        u8::from(self.is_draining()) + u8::from(self.is_expired())
    }

    /// Asked for every request, so without the lock that is in a token.
    fn has_reached(&self, phase: Phase) -> bool {
        self.inner.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// The end of the process waits until this token is dropped, within the grace period.
    pub fn work(&self) -> TaskTrackerToken {
        self.inner.work.token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        ready_delay: Duration::from_secs(3),
        grace: Duration::from_secs(25),
    };

    #[test]
    fn readiness_is_a_latch_that_only_the_shutdown_turns() {
        let lifecycle = Lifecycle::new();
        assert!(!lifecycle.is_ready());
        lifecycle.connected_once();
        assert!(lifecycle.is_ready());
        lifecycle.leave();
        lifecycle.connected_once();
        assert!(!lifecycle.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn it_still_serves_while_leaving_and_drains_after_the_delay() {
        let lifecycle = Lifecycle::new();
        let drain = lifecycle.drain();
        let (_sender, mut signals) = Signals::manual();
        let start = Instant::now();
        let work = drain.work();
        let observer = async {
            drain.leaving().await;
            assert_eq!(lifecycle.phase(), Phase::Leaving);
            assert!(!drain.is_draining());
            drain.draining().await;
            assert_eq!(start.elapsed(), TIMING.ready_delay);
            drop(work);
        };
        let (ending, ()) = tokio::join!(lifecycle.shut_down(TIMING, &mut signals), observer);
        assert_eq!(ending, Ending::Drained);
        assert_eq!(start.elapsed(), TIMING.ready_delay);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_never_ends_is_told_before_the_deadline() {
        let lifecycle = Lifecycle::new();
        let drain = lifecycle.drain();
        let _work = drain.work();
        let (_sender, mut signals) = Signals::manual();
        let start = Instant::now();
        let observer = async {
            drain.expired().await;
            start.elapsed()
        };
        let (ending, told) = tokio::join!(lifecycle.shut_down(TIMING, &mut signals), observer);
        assert_eq!(ending, Ending::GraceExpired);
        assert_eq!(told, TIMING.ready_delay + TIMING.grace - TIMING.reserve());
        assert!(start.elapsed() < TIMING.ready_delay + TIMING.grace);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once() {
        let lifecycle = Lifecycle::new();
        let _work = lifecycle.drain().work();
        let (sender, mut signals) = Signals::manual();
        let start = Instant::now();
        sender.send(Signal::Reload).await.unwrap();
        sender.send(Signal::Terminate).await.unwrap();
        let ending = lifecycle.shut_down(TIMING, &mut signals).await;
        assert_eq!(ending, Ending::Forced);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
