//! Histograms of one name, told apart by their labels, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;

use super::histogram::{Bounds, Histogram};

/// From what a sidecar needs on loopback to the longest default `timeout_max`.
pub(super) const REQUEST: Bounds = &[
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (10_000_000_000, "10.0"),
    (60_000_000_000, "60.0"),
];

/// From a message that goes straight through to one that a stream has kept for a week.
pub(super) const LAG: Bounds = &[
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (100_000_000, "0.1"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (5_000_000_000, "5.0"),
    (30_000_000_000, "30.0"),
    (300_000_000_000, "300.0"),
    (3_600_000_000_000, "3600.0"),
    (86_400_000_000_000, "86400.0"),
    (604_800_000_000_000, "604800.0"),
];

/// The family. Names of labels are ours; their values are names of routes, methods and classes of status.
#[derive(Clone, Debug)]
pub(super) struct Durations<const N: usize>(Arc<Inner<N>>);

#[derive(Debug)]
struct Inner<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    bounds: Bounds,
    members: Mutex<BTreeMap<[Arc<str>; N], Histogram>>,
}

impl<const N: usize> Durations<N> {
    /// `name` ends with its unit.
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        bounds: Bounds,
    ) -> Self {
        Self(Arc::new(Inner {
            name,
            help,
            labels,
            bounds,
            members: Mutex::default(),
        }))
    }

    /// The one with these values, made when it is asked for the first time.
    pub(super) fn of(&self, values: [Arc<str>; N]) -> Histogram {
        let make = || Histogram::new(self.0.bounds);
        let mut members = self.0.members.lock();
        members.entry(values).or_insert_with(make).clone()
    }

    /// Writes all of them in OpenMetrics' text format.
    pub(super) fn write(&self, to: &mut String) -> fmt::Result {
        let Inner { name, help, .. } = *self.0;
        writeln!(to, "# HELP {name} {help}.")?;
        writeln!(to, "# TYPE {name} histogram\n# UNIT {name} seconds")?;
        for (values, histogram) in &*self.0.members.lock() {
            let pairs = self.0.labels.iter().zip(values);
            let labels = pairs.map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
            histogram.write(to, name, &labels.collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

/// As it stands between quotes.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_texts_of_bounds_are_their_values() {
        for (bound_ns, text) in REQUEST.iter().chain(LAG) {
            let seconds: f64 = text.parse().unwrap();
            assert_eq!(
                Duration::from_secs_f64(seconds),
                Duration::from_nanos(*bound_ns)
            );
        }
        for bounds in [REQUEST, LAG] {
            assert!(bounds.is_sorted());
        }
    }

    #[test]
    fn members_are_kept_apart_and_a_quote_stays_inside() {
        let family = Durations::new("a_seconds", "How long", ["route"], LAG);
        for route in ["one", "tw\"o\\"] {
            family
                .of([route.into()])
                .observe(Duration::from_secs(1), None);
        }
        family
            .of(["one".into()])
            .observe(Duration::from_secs(1), None);
        let mut text = String::new();
        family.write(&mut text).unwrap();
        assert!(text.starts_with("# HELP a_seconds How long.\n"), "{text}");
        for line in [
            "a_seconds_count{route=\"one\"} 2\n",
            "a_seconds_count{route=\"tw\\\"o\\\\\"} 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
