//! A histogram of durations that every request of every worker counts in: cells of a thread's own instead
//! of a lock for all, which is what the library's histogram with exemplars has.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use parking_lot::Mutex;

use crate::workers::Stripes;

/// Upper bounds of the buckets, and their text, the one in nanoseconds and the other in seconds.
pub(super) type Bounds = &'static [(u64, &'static str)];

/// The most bounds that a histogram has.
const BOUNDS_MAX: usize = 16;

/// The handle.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    stripes: Stripes<Cells>,
    /// A traced request that fell into the bucket, the last one.
    exemplars: Mutex<[Option<Exemplar>; BOUNDS_MAX + 1]>,
}

#[derive(Debug, Default)]
struct Cells {
    /// The last one is of what is above all bounds.
    counts: [AtomicU64; BOUNDS_MAX + 1],
    /// In seconds, the bits of an `f64`: ages of stored messages add up to more than whole numbers of
    /// nanoseconds can hold.
    sum: AtomicU64,
}

impl Cells {
    fn add(&self, seconds: f64) {
        let more = |bits| Some((f64::from_bits(bits) + seconds).to_bits());
        let _always_set = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

#[derive(Clone, Copy, Debug)]
struct Exemplar {
    trace: TraceId,
    took: Duration,
}

impl Histogram {
    pub(super) fn new(bounds: Bounds) -> Self {
        assert!(bounds.len() <= BOUNDS_MAX, "there is a cell for each");
        Self(Arc::new(Inner {
            bounds,
            stripes: Stripes::new(Cells::default),
            exemplars: Mutex::new([None; BOUNDS_MAX + 1]),
        }))
    }

    /// Counts one, and of a traced request remembers the trace.
    pub(super) fn observe(&self, took: Duration, trace: Option<TraceId>) {
        let inner = &*self.0;
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = inner
            .bounds
            .partition_point(|(most_ns, _)| *most_ns < took_ns);
        let cells = inner.stripes.mine();
        cells.counts[bucket].fetch_add(1, Ordering::Relaxed);
        cells.add(took.as_secs_f64());
        // Whoever holds it has one that is as good.
        if let Some(trace) = trace
            && let Some(mut exemplars) = inner.exemplars.try_lock()
        {
            exemplars[bucket] = Some(Exemplar { trace, took });
        }
    }

    fn count(&self, bucket: usize) -> u64 {
        let counts = self.0.stripes.iter().map(|cells| &cells.counts[bucket]);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn sum(&self) -> f64 {
        self.0.stripes.iter().map(Cells::sum).sum()
    }

    /// Writes its lines in OpenMetrics' text format. The count is that of the buckets, though more is
    /// counted meanwhile.
    pub(super) fn write(&self, to: &mut String, name: &str, labels: &str) -> fmt::Result {
        let exemplars = *self.0.exemplars.lock();
        let texts = self.0.bounds.iter().map(|(_, text)| *text);
        let mut count = 0;
        for (bucket, text) in texts.chain(["+Inf"]).enumerate() {
            count += self.count(bucket);
            write!(to, "{name}_bucket{{{labels},le=\"{text}\"}} {count}")?;
            if let Some(Exemplar { trace, took }) = exemplars[bucket] {
                write!(to, " # {{trace_id=\"{trace}\"}} {}", took.as_secs_f64())?;
            }
            to.push('\n');
        }
        writeln!(to, "{name}_count{{{labels}}} {count}")?;
        writeln!(to, "{name}_sum{{{labels}}} {}", self.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = &[(1_000_000, "0.001"), (1_000_000_000, "1.0")];

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::new(BOUNDS);
        for took_us in [1, 1000, 1001, 1_000_000, 60_000_000] {
            histogram.observe(Duration::from_micros(took_us), None);
        }
        let mut text = String::new();
        histogram.write(&mut text, "a_seconds", "b=\"c\"").unwrap();
        assert_eq!(
            text,
            "a_seconds_bucket{b=\"c\",le=\"0.001\"} 2\n\
             a_seconds_bucket{b=\"c\",le=\"1.0\"} 4\n\
             a_seconds_bucket{b=\"c\",le=\"+Inf\"} 5\n\
             a_seconds_count{b=\"c\"} 5\n\
             a_seconds_sum{b=\"c\"} 61.002002\n"
        );
    }

    #[test]
    fn the_ages_of_old_messages_add_up() {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let histogram = Histogram::new(BOUNDS);
        (0..10_000).for_each(|_| histogram.observe(YEAR, None));
        assert!((histogram.sum() / (10_000.0 * YEAR.as_secs_f64()) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn every_thread_counts() {
        let histogram = Histogram::new(BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let trace = Some(TraceId::from_bytes([7; 16]));
                    (0..1000).for_each(|_| histogram.observe(Duration::from_millis(2), trace));
                });
            }
        });
        assert_eq!((histogram.count(0), histogram.count(1)), (0, 8000));
        assert!((histogram.sum() - 16.0).abs() < 1e-6);
        let mut text = String::new();
        histogram.write(&mut text, "a", "b=\"c\"").unwrap();
        let exemplar = " 8000 # {trace_id=\"07070707070707070707070707070707\"} 0.002\n";
        assert!(text.contains(exemplar), "{text}");
    }
}
