//! A cell a worker. Threads that write to the same word take its line of memory from each other, which
//! costs more than what they write; so each has its own, and whoever reads adds them up.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// More workers than that share cells, which is slower and nothing else.
const MOST: usize = 16;

/// As many as there are workers, if they are not told how many to be. To ask the system reads files.
static CELLS: LazyLock<usize> = LazyLock::new(|| {
    let workers = available_parallelism().map_or(1, usize::from);
    workers.next_power_of_two().min(MOST)
});

thread_local! {
    /// The worker's, which comes first; else one of their own.
    static NUMBER: Cell<usize> = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed))
    };
}

/// Says which worker the thread is that calls this. Workers in a row have cells of their own; what other
/// threads there are, they share one with a worker.
pub(super) fn set_worker(number: usize) {
    NUMBER.set(number);
}

/// The cells. Each is as far from the next as two lines of memory, which is what a processor fetches.
#[derive(Debug)]
pub struct Stripes<T>(Box<[Padded<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

impl<T> Stripes<T> {
    /// Each as it is made here.
    pub fn new(cell: impl Fn() -> T) -> Self {
        Self((0..*CELLS).map(|_| Padded(cell())).collect())
    }

    /// The cell of the thread that asks.
    #[must_use]
    pub fn mine(&self) -> &T {
        &self.0[NUMBER.get() % self.0.len()].0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &cell.0)
    }
}
