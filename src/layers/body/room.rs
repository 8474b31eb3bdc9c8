//! What a body has drawn from the budget.

use std::sync::Arc;

use crate::layers::memory::{Budget, Drawn};

/// What a streamed body draws: what is read ahead of NATS. Its verb draws the longest line.
pub(super) const WINDOW: u64 = 1 << 20;

/// What a body of undeclared length draws first, and at most ahead of what has come. It draws as much again
/// as it has, so that a small one or a slow one draws little.
pub(super) const FIRST: u64 = 4 << 10;
const STEP: u64 = 64 << 10;

/// Room for a body that is being read.
pub(super) trait Room {
    /// Whether it has room for so many bytes in all.
    fn covers(&mut self, bytes: u64) -> bool;
}

/// Of a body that is held whole.
impl Room for Drawn<&Budget> {
    fn covers(&mut self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.bytes());
        missing == 0 || {
            let ahead = self.bytes().min(STEP);
            self.more(missing.max(ahead))
        }
    }
}

/// Of a streamed one, shared with its layer: a [`WINDOW`], however long it is.
impl Room for Arc<Drawn> {
    fn covers(&mut self, _bytes: u64) -> bool {
        true
    }
}

/// What lives as long as somebody may hold a payload.
#[derive(Default)]
pub(super) enum Kept<'b> {
    /// There is no body.
    #[default]
    Nothing,
    /// Of a body that is held whole.
    Whole(#[allow(dead_code, reason = "held, never read")] Drawn<&'b Budget>),
    /// Of a streamed one.
    Streamed(#[allow(dead_code, reason = "held, never read")] Arc<Drawn>),
}
