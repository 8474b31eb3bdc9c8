//! Pauses between attempts, within a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(20);
/// An election takes a second or two; looking four times a second notices its end soon enough.
const LONGEST: Duration = Duration::from_millis(250);

/// Grows from one attempt to the next, up to a quarter of a second.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    deadline: Instant,
}

impl Backoff {
    pub(super) const fn until(deadline: Instant) -> Self {
        Self {
            next: FIRST,
            deadline,
        }
    }

    /// Waits before another attempt; false at once where that would be too late.
    pub(super) async fn pause(&mut self) -> bool {
        let factor = rand::random_range(0.5..1.0);
        let pause = self.next.mul_f64(factor);
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        self.next = (self.next * 2).min(LONGEST);
        sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
