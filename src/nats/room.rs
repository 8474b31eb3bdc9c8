//! Room for large replies: paid for where they are delivered, before they wait for their callers.
//!
//! A thousand callers can be answered in the same moment, and each reply waits until its caller's task
//! runs. What there is no room for is let go of at once, not only by a caller who would refuse it.

use std::ops::Deref;
use std::sync::Arc;

use super::Inbound;

/// A reply from here on is paid for: below it, the requests' own bounds are enough.
const LARGE_BYTES: usize = 64 * 1024;

/// Memory for replies, as the process as a whole has it.
pub trait Room: std::fmt::Debug + Send + Sync {
    /// Takes bytes, or nothing.
    fn take(&self, bytes: u64) -> bool;

    /// Takes back what was taken.
    fn give_back(&self, bytes: u64);
}

/// Room where nothing is counted: natsway's own questions to JetStream must be answered, however much
/// clients hold.
#[derive(Debug)]
pub(super) struct Uncounted;

impl Room for Uncounted {
    fn take(&self, _bytes: u64) -> bool {
        true
    }

    fn give_back(&self, _bytes: u64) {}
}

/// Bytes drawn from a room, given back when dropped. Who does not outlive the room borrows it: all workers
/// would count references of an `Arc`.
#[derive(Debug)]
pub struct Drawn<R = Arc<dyn Room>>
where
    R: Deref,
    R::Target: Room,
{
    room: R,
    bytes: u64,
}

impl<R> Drawn<R>
where
    R: Deref,
    R::Target: Room,
{
    /// Draws bytes, or nothing.
    #[must_use]
    pub fn of(room: R, bytes: u64) -> Option<Self> {
        room.take(bytes).then(|| Self { room, bytes })
    }

    /// How many.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Draws more, or nothing more.
    pub fn more(&mut self, bytes: u64) -> bool {
        let taken = self.room.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Takes over what another has drawn from the same room, at most so many bytes, and says how many.
    pub fn take_over(&mut self, other: &mut Self, bytes: u64) -> u64 {
        let taken = bytes.min(other.bytes);
        other.bytes -= taken;
        self.bytes += taken;
        taken
    }

    /// Draws what is missing up to so many bytes, or nothing more.
    #[must_use]
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.bytes);
        // Where the limit was lowered meanwhile, there is not even room for nothing.
        missing == 0 || self.more(missing)
    }
}

impl<R> Drop for Drawn<R>
where
    R: Deref,
    R::Target: Room,
{
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

/// A reply, with what was taken for it.
#[derive(Debug)]
pub struct Reply {
    /// The message.
    pub message: Inbound,
    /// Only a large one has something.
    pub held: Option<Drawn>,
}

/// There is no room for a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom;

/// What has to be held for a reply.
pub(super) fn pay_for(room: &Arc<dyn Room>, message: &Inbound) -> Result<Option<Drawn>, NoRoom> {
    let bytes = message.payload.len();
    if bytes < LARGE_BYTES {
        return Ok(None);
    }
    let drawn = Drawn::of(Arc::clone(room), bytes as u64);
    drawn.map(Some).ok_or(NoRoom)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// So many bytes are left.
    #[derive(Debug)]
    pub(in crate::nats) struct Left(AtomicU64);

    impl Left {
        pub(in crate::nats) fn new(bytes: u64) -> Arc<Self> {
            Arc::new(Self(AtomicU64::new(bytes)))
        }

        pub(in crate::nats) fn bytes(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Room for Left {
        fn take(&self, bytes: u64) -> bool {
            let less = |left: u64| left.checked_sub(bytes);
            let taken = self
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
            taken.is_ok()
        }

        fn give_back(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_held_grows_as_far_as_there_is_room_and_is_given_back() {
        let left = Left::new(100);
        let room: Arc<dyn Room> = left.clone();
        let mut held = Drawn::of(Arc::clone(&room), 60).unwrap();
        assert!(Drawn::of(Arc::clone(&room), 41).is_none());
        assert!(held.grow_to(90));
        assert!(held.grow_to(10), "it holds that already");
        assert!(!held.grow_to(101));
        assert_eq!(left.bytes(), 10);
        let mut other = Drawn::of(Arc::clone(&room), 0).unwrap();
        assert_eq!(other.take_over(&mut held, 70), 70);
        assert_eq!(other.take_over(&mut held, 70), 20);
        assert_eq!((other.bytes(), held.bytes(), left.bytes()), (90, 0, 10));
        drop(held);
        assert_eq!(left.bytes(), 10);
        drop(other);
        assert_eq!(left.bytes(), 100);
    }
}
