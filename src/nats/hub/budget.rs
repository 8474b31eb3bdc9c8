//! A limit in bytes for the process as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// This part of the limit is shared out evenly, so that nobody is left with nothing.
const RESERVED_PART: usize = 8;

/// Counts bytes that are held, up to a limit, which may change meanwhile; what is held stays held.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    holders: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// Sets another limit.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// One more shares the reserve.
    pub(super) fn enter(&self) {
        self.holders.fetch_add(1, Ordering::AcqRel);
    }

    /// One less does.
    pub(super) fn leave(&self) {
        self.holders.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes `bytes` for one who entered and holds `held`: within its share of the reserve, or from
    /// what is left besides. So whoever reads on finds room, however many others do not.
    #[must_use]
    pub(super) fn take_for(&self, held: usize, bytes: usize) -> bool {
        let share = self.reserve() / self.holders.load(Ordering::Acquire).max(1);
        if held + bytes <= share {
            self.take_below(self.limit(), bytes)
        } else {
            self.take(bytes)
        }
    }

    /// Takes `bytes`, if they are left besides the reserve.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        self.take_below(self.limit() - self.reserve(), bytes)
    }

    fn reserve(&self) -> usize {
        self.limit() / RESERVED_PART
    }

    fn take_below(&self, limit: usize, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok()
    }

    /// Gives `bytes` back.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }
}
