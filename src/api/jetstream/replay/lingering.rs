//! Feeds that nobody reads any more. Each has a consumer on the server, and a client that opens and
//! closes replays of ever new subjects would leave thousands; so there are only so many, and the
//! oldest goes for the newest.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Enough for whoever was cut off and comes back.
const MAX: usize = 64;

/// All of them, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Lingering(Mutex<VecDeque<Arc<Notify>>>);

/// One of them, while it lives.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Lingering>,
    needed: Arc<Notify>,
}

impl Lingering {
    /// Another one.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let needed = Arc::new(Notify::new());
        let mut all = self.0.lock();
        if all.len() == MAX
            && let Some(oldest) = all.pop_front()
        {
            oldest.notify_one();
        }
        all.push_back(Arc::clone(&needed));
        drop(all);
        Place {
            of: Arc::clone(self),
            needed,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Place {
    /// Resolves when another one needs the place.
    pub(super) async fn needed(&self) {
        self.needed.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of
            .0
            .lock()
            .retain(|needed| !Arc::ptr_eq(needed, &self.needed));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_goes_for_the_newest() {
        let all = Arc::new(Lingering::default());
        let mut places: VecDeque<Place> = (0..MAX).map(|_| all.enter()).collect();
        assert!(places[0].needed().now_or_never().is_none());
        let _one_more = all.enter();
        assert!(places[0].needed().now_or_never().is_some());
        assert!(places[1].needed().now_or_never().is_none());
        assert_eq!(all.len(), MAX);
        places.pop_front();
        assert_eq!(all.len(), MAX);
        places.clear();
        assert_eq!(all.len(), 1);
    }
}
