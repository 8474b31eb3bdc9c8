//! Pauses between attempts, within a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(20);
/// An election takes a second or two; looking four times a second notices its end soon enough.
const LONGEST: Duration = Duration::from_millis(250);

/// The most time that is kept for an attempt: one that begins too late ends without an answer, and
/// what was known (nothing was stored) would become unknown.
const RESERVE_MAX: Duration = Duration::from_millis(250);

/// The least: a timer may be that late.
const RESERVE_MIN: Duration = Duration::from_millis(2);

/// Grows from one attempt to the next, up to a quarter of a second.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    deadline: Instant,
    began: Instant,
}

impl Backoff {
    pub(super) fn until(deadline: Instant) -> Self {
        Self {
            next: FIRST,
            deadline,
            began: Instant::now(),
        }
    }

    /// Waits before another attempt; false at once where that would be too late.
    pub(super) async fn pause(&mut self) -> bool {
        let factor = rand::random_range(0.5..1.0);
        let pause = self.next.mul_f64(factor);
        let reserve = (self.began.elapsed() * 2).clamp(RESERVE_MIN, RESERVE_MAX);
        if Instant::now() + pause + reserve >= self.deadline {
            return false;
        }
        self.next = (self.next * 2).min(LONGEST);
        sleep(pause).await;
        self.began = Instant::now();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_would_come_too_late_is_not_made() {
        let mut backoff = Backoff::until(Instant::now() + Duration::from_millis(500));
        sleep(Duration::from_millis(100)).await;
        assert!(backoff.pause().await);
        sleep(Duration::from_millis(200)).await;
        assert!(!backoff.pause().await, "another may take as long");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_before_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(3);
        let mut backoff = Backoff::until(deadline);
        let mut attempts = 0;
        while backoff.pause().await {
            attempts += 1;
            assert!(Instant::now() < deadline);
        }
        assert!(start.elapsed() > Duration::from_millis(2700));
        assert!((12..60).contains(&attempts), "{attempts}");
    }
}
