//! How many readers may catch up at once, each with a consumer of its own on the server.
//!
//! Others wait in line. A reader that holds a place and does not use it, because its client reads
//! nothing, must not keep others waiting: it is made to give the place back, and asks again later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::lease::Lease;

/// How often those who wait look for places that are not used.
const LOOKING: Duration = Duration::from_millis(500);

/// A lease between two uses, where those who wait may take it away.
pub(super) type Shelf = Mutex<Option<Lease>>;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    max: AtomicUsize,
    /// Places that are to go as soon as they are given back.
    surplus: AtomicUsize,
    waiting: AtomicUsize,
    shelves: Mutex<Vec<Weak<Shelf>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Held {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(max)),
            max: AtomicUsize::new(max),
            surplus: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            shelves: Mutex::default(),
        })
    }

    /// Sets another limit; who catches up now goes on.
    pub(super) fn set_max(&self, max: usize) {
        let before = self.max.swap(max, Ordering::AcqRel);
        if max >= before {
            let more = max - before;
            let owed = self.surplus.load(Ordering::Acquire).min(more);
            self.surplus.fetch_sub(owed, Ordering::AcqRel);
            self.free.add_permits(more - owed);
        } else {
            let gone = self.free.forget_permits(before - max);
            self.surplus
                .fetch_add(before - max - gone, Ordering::AcqRel);
        }
    }

    /// Waits for a place, first come, first served.
    pub(super) async fn take(self: &Arc<Self>) -> Held {
        let _waits = Waits::new(&self.waiting);
        let mut taking = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        loop {
            tokio::select! {
                biased;
                permit = &mut taking => {
                    let permit = permit.ok();
                    return Held { permit, places: Arc::clone(self) };
                }
                () = sleep(LOOKING) => self.reclaim(),
            }
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        let all = self.max.load(Ordering::Relaxed) + self.surplus.load(Ordering::Relaxed);
        all.saturating_sub(self.free.available_permits())
    }

    /// A shelf that those who wait will look at.
    pub(super) fn shelf(&self, lease: Option<Lease>) -> Arc<Shelf> {
        let shelf = Arc::new(Mutex::new(lease));
        let mut shelves = self.shelves.lock();
        if shelves.len() >= 64 && shelves.len().is_power_of_two() {
            shelves.retain(|shelf| shelf.strong_count() > 0);
        }
        shelves.push(Arc::downgrade(&shelf));
        shelf
    }

    fn reclaim(&self) {
        let mut idle = Vec::new();
        self.shelves.lock().retain(|shelf| {
            let Some(shelf) = shelf.upgrade() else {
                return false;
            };
            let mut lease = shelf.lock();
            if lease.as_ref().is_some_and(Lease::is_idle) {
                idle.extend(lease.take());
            }
            true
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let owed = |surplus: usize| surplus.checked_sub(1);
        let surplus = &self.places.surplus;
        if surplus
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, owed)
            .is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

/// Counts one who waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn places_are_given_in_the_order_of_asking() {
        let places = Places::new(1);
        let held = places.take().await;
        assert!(places.waiting() == 0);
        let mut second = Box::pin(places.take());
        let mut third = Box::pin(places.take());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!((places.waiting(), places.taken()), (2, 1));
        drop(held);
        assert!(third.as_mut().now_or_never().is_none());
        let held = second.await;
        drop(held);
        drop(third.await);
        assert!(places.waiting() == 0);
    }

    #[tokio::test]
    async fn a_lower_limit_counts_as_soon_as_places_are_given_back() {
        let places = Places::new(3);
        let held = [places.take().await, places.take().await];
        places.set_max(1);
        assert_eq!(places.taken(), 2);
        assert!(places.take().now_or_never().is_none());
        let [one, two] = held;
        drop(one);
        assert!(places.take().now_or_never().is_none());
        drop(two);
        let one = places.take().await;
        assert!(places.take().now_or_never().is_none());
        places.set_max(2);
        let two = places.take().await;
        assert!(places.take().now_or_never().is_none());
        drop((one, two));
        places.set_max(1);
        places.set_max(2);
        let _both = (places.take().await, places.take().await);
        assert!(places.take().now_or_never().is_none());
    }
}
