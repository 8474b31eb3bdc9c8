//! Waiting for conditions, never for time.

use std::time::Duration;

use tokio::time::Instant;

/// A bound that only a broken program reaches, even on a machine ten times slower than usual.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Waits until `check` says true; fails with `what` after `bound`.
pub(crate) async fn eventually<F, Fut>(bound: Duration, what: &str, mut check: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    eventually_some(bound, what, async || check().await.then_some(())).await;
}

/// Waits until `check` finds something and returns it; fails with `what` after `bound`.
pub(crate) async fn eventually_some<T>(
    bound: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: did not happen within {bound:?}"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}
