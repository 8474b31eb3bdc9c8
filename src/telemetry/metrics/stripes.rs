//! A cell a thread. Workers that write to the same word take its line of memory from each other, which
//! costs more than what they write; so each has its own, and whoever reads adds them up.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use prometheus_client::metrics::gauge;

/// More workers than that share cells, which is slower and nothing else.
const MOST: usize = 16;

/// As many as there are workers. To ask the system reads files.
static CELLS: LazyLock<usize> = LazyLock::new(|| {
    let workers = available_parallelism().map_or(1, usize::from);
    workers.next_power_of_two().min(MOST)
});

/// The cells. Each is as far from the next as two lines of memory, which is what a processor fetches.
#[derive(Debug)]
pub(super) struct Stripes<T>(Box<[Padded<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Stripes<T> {
    pub(super) fn new(cell: impl Fn() -> T) -> Self {
        Self((0..*CELLS).map(|_| Padded(cell())).collect())
    }

    /// The cell of the thread that asks.
    pub(super) fn mine(&self) -> &T {
        thread_local! {
            static THREAD: usize = {
                static THREADS: AtomicUsize = AtomicUsize::new(0);
                THREADS.fetch_add(1, Ordering::Relaxed)
            };
        }
        let thread = THREAD.with(|thread| *thread);
        &self.0[thread % self.0.len()].0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &cell.0)
    }
}

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
