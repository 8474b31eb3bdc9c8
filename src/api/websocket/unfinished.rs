//! A message that has not come to its end yet. It lies in the library, whole once it is, so what has
//! come of it is paid for like a body.

use std::sync::Arc;

use crate::layers::memory::{Budget, Drawn};
use crate::layers::received::Received;

/// So much costs nothing: what a connection takes anyway.
const FREE_BYTES: u64 = 16 * 1024;
/// What is drawn at a time.
const STEP_BYTES: u64 = 64 * 1024;
/// The head of a client's control frame: two bytes and a mask.
const CONTROL_HEAD_BYTES: u64 = 6;

/// What has come since the last whole message.
#[derive(Debug)]
pub(super) struct Unfinished {
    received: Received,
    bodies: Arc<Budget>,
    since: u64,
    drawn: Option<Drawn>,
}

impl Unfinished {
    pub(super) fn new(received: Received, bodies: &Arc<Budget>) -> Self {
        Self {
            since: received.bytes(),
            received,
            bodies: Arc::clone(bodies),
            drawn: None,
        }
    }

    /// A message came to its end; who takes it pays for it.
    pub(super) fn ended(&mut self) {
        self.since = self.received.bytes();
        self.drawn = None;
    }

    /// A sign of life came in between.
    pub(super) fn skip(&mut self, control: &[u8]) {
        self.since += CONTROL_HEAD_BYTES + control.len() as u64;
    }

    /// Whether there is room for what has come.
    pub(super) fn is_paid(&mut self) -> bool {
        let come = self.received.bytes().saturating_sub(self.since);
        if come <= FREE_BYTES {
            return true;
        }
        match &mut self.drawn {
            Some(drawn) => {
                let missing = come.saturating_sub(drawn.bytes());
                missing == 0 || drawn.more(missing.max(STEP_BYTES))
            }
            none => {
                *none = self.bodies.draw(come.max(STEP_BYTES));
                none.is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::telemetry::metrics::Gauge;

    #[test]
    fn what_has_come_is_paid_for_until_its_message_is_whole() {
        let count = Arc::new(AtomicU64::new(500));
        let asked = Arc::clone(&count);
        let received = Received::new(move || asked.load(Ordering::Relaxed), || false);
        let gauge = Gauge::default();
        let bodies = Budget::new(256 << 10, gauge.clone());
        let mut unfinished = Unfinished::new(received, &bodies);
        let mut after = |bytes: u64| {
            count.fetch_add(bytes, Ordering::Relaxed);
            unfinished.is_paid()
        };
        assert!(after(FREE_BYTES));
        assert_eq!(gauge.get(), 0);
        assert!(after(1));
        assert_eq!(gauge.get(), 64 << 10);
        assert!(after(100 << 10));
        assert!(!after(200 << 10));
        unfinished.ended();
        assert_eq!(gauge.get(), 0);
        for _ in 0..10_000 {
            count.fetch_add(8, Ordering::Relaxed);
            unfinished.skip(b"hi");
        }
        assert!(unfinished.is_paid());
        assert_eq!(gauge.get(), 0);
    }
}
