//! A gauge that all workers move.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::metrics::gauge;

use crate::workers::Stripes;

/// What goes up and down by steps, and is never set.
#[derive(Debug)]
pub struct Level(Stripes<AtomicI64>);

impl Default for Level {
    fn default() -> Self {
        Self(Stripes::new(AtomicI64::default))
    }
}

impl Level {
    fn add(&self, step: i64) -> i64 {
        self.0.mine().fetch_add(step, Ordering::Relaxed)
    }

    fn sum(&self) -> i64 {
        let cells = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        cells.fold(0, i64::wrapping_add)
    }
}

/// What is given back is the value of one cell, and means nothing.
impl gauge::Atomic<i64> for Level {
    fn inc(&self) -> i64 {
        self.add(1)
    }

    fn inc_by(&self, step: i64) -> i64 {
        self.add(step)
    }

    fn dec(&self) -> i64 {
        self.add(-1)
    }

    fn dec_by(&self, step: i64) -> i64 {
        self.add(-step)
    }

    fn set(&self, value: i64) -> i64 {
        self.add(value - self.sum())
    }

    /// Cells are read one after the other, so a step down may be seen whose step up was not.
    fn get(&self) -> i64 {
        self.sum().max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_adds_another_may_take_away() {
        let level = Level::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        gauge::Atomic::inc(&level);
                    }
                });
            }
        });
        assert_eq!(gauge::Atomic::get(&level), 8000);
        gauge::Atomic::dec_by(&level, 8000);
        assert_eq!(gauge::Atomic::get(&level), 0);
    }
}
