//! A budget in bytes for the process as a whole: drawn before something is held, given back when it is
//! gone. One request too many is shed; the process is not killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::nats::Room;
use crate::telemetry::metrics::Gauge;

pub use crate::nats::Drawn;

/// The budget. Its limit may change while it is in use; what was drawn stays drawn.
#[derive(Debug)]
pub struct Budget {
    /// What is drawn, counted here and nowhere else.
    used: Gauge,
    limit: AtomicU64,
}

impl Budget {
    /// So many bytes. The gauge is the budget's own from now on, and shows what is drawn.
    #[must_use]
    pub fn new(limit: u64, used: Gauge) -> Arc<Self> {
        Arc::new(Self {
            used,
            limit: AtomicU64::new(limit),
        })
    }

    /// Sets another limit.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Draws bytes, or nothing.
    #[must_use]
    pub fn draw(self: &Arc<Self>, bytes: u64) -> Option<Drawn> {
        let room: Arc<dyn Room> = Arc::<Self>::clone(self);
        Drawn::of(room, bytes)
    }

    /// The same for somebody who does not outlive the budget.
    #[must_use]
    pub fn lend(&self, bytes: u64) -> Option<Drawn<&Self>> {
        Drawn::of(self, bytes)
    }

    fn used(&self) -> &AtomicI64 {
        self.used.inner()
    }
}

/// Large replies are paid for from it as well.
impl Room for Budget {
    fn take(&self, bytes: u64) -> bool {
        let limit = signed(self.limit.load(Ordering::Relaxed));
        let bytes = signed(bytes);
        let fits = |used: i64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used()
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used().fetch_sub(signed(bytes), Ordering::Relaxed);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_is_given_back() {
        let gauge = Gauge::default();
        let budget = Budget::new(100, gauge.clone());
        let mut first = budget.draw(60).unwrap();
        assert!(budget.draw(41).is_none());
        assert!(first.more(40));
        assert!(!first.more(1));
        assert_eq!((first.bytes(), gauge.get()), (100, 100));
        drop(first);
        assert_eq!(gauge.get(), 0);
        assert!(budget.draw(100).is_some());
        assert!(budget.draw(u64::MAX).is_none());
    }

    #[test]
    fn a_smaller_limit_holds_for_what_comes() {
        let budget = Budget::new(100, Gauge::default());
        let held = budget.draw(80).unwrap();
        budget.set_limit(50);
        assert!(budget.draw(1).is_none());
        drop(held);
        assert!(budget.draw(50).is_some());
    }
}
