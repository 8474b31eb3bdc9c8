//! The connection cap. A semaphore cannot take back permits that are out, and a reload may lower the cap.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// So many places for connections.
#[derive(Debug)]
pub struct Slots {
    open: AtomicUsize,
    max: AtomicUsize,
    /// One waiter, the accept loop: a place that was freed before it looks leaves a permit behind.
    freed: Notify,
}

impl Slots {
    /// So many.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            freed: Notify::new(),
        })
    }

    /// Sets another cap; what is open stays open.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.freed.notify_one();
    }

    /// A place, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        loop {
            if let Some(slot) = self.take_now() {
                return slot;
            }
            self.freed.notified().await;
        }
    }

    /// A place, if there is one.
    pub(super) fn take_now(self: &Arc<Self>) -> Option<Slot> {
        let max = self.max.load(Ordering::Relaxed);
        let fits = |open: usize| (open < max).then_some(open + 1);
        let taken = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.is_ok().then(|| Slot(Arc::clone(self)))
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cap_can_be_raised_and_lowered_while_places_are_taken() {
        let slots = Slots::new(1);
        let first = slots.take().await;
        let second = slots.take();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        slots.set_max(2);
        let second = second.await;
        slots.set_max(1);
        drop(first);
        let third = slots.take();
        tokio::pin!(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        drop(second);
        third.await;
    }
}
