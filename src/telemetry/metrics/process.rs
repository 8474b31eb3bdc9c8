//! What the operating system knows of this process, read when somebody scrapes.
//!
//! Names without our prefix are those every Prometheus client uses, so that common dashboards fit.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};

/// What Linux counts processor time in, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// `process_*`. What `/proc` does not tell is left out.
#[derive(Debug)]
pub(super) struct Process {
    started_seconds: f64,
}

impl Process {
    /// Begins now, which is when the process does, but for milliseconds.
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started_seconds: since.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let help = "Processor time used, of user and system together";
            let counter = ConstCounter::new(seconds);
            put(
                &mut encoder,
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                &counter,
            )?;
        }
        if let Some(bytes) = resident_bytes() {
            let help = "Memory in use";
            let gauge = ConstGauge::new(bytes);
            put(
                &mut encoder,
                "process_resident_memory",
                help,
                Some(&Unit::Bytes),
                &gauge,
            )?;
        }
        if let Some(open) = open_files() {
            let help = "Open file descriptors";
            put(
                &mut encoder,
                "process_open_fds",
                help,
                None,
                &ConstGauge::new(open),
            )?;
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            let help = "Limit of open file descriptors";
            let gauge = ConstGauge::new(i64::try_from(max).unwrap_or(i64::MAX));
            put(&mut encoder, "process_max_fds", help, None, &gauge)?;
        }
        let help = "When the process began, in seconds since 1970";
        let gauge = ConstGauge::new(self.started_seconds);
        put(
            &mut encoder,
            "process_start_time",
            help,
            Some(&Unit::Seconds),
            &gauge,
        )
    }
}

pub(super) fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn cpu_seconds() -> Option<f64> {
    cpu_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)
        .map(|ticks| ticks / TICKS_PER_SECOND)
}

/// The name of the process, in brackets, may hold anything, so it is skipped from its end.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn resident_bytes() -> Option<i64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// One of them is the folder that is being read.
fn open_files() -> Option<i64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count).ok().map(|count| count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_in_the_name_hides_no_ticks() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 6 7 20 0 1 0 99 1 1\n";
        assert_eq!(cpu_ticks(stat), Some(200.0));
        assert_eq!(cpu_ticks("7 (a"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(
            resident("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n"),
            Some(12 * 1024)
        );
        assert_eq!(resident(""), None);
    }

    #[test]
    fn this_process_has_open_files_and_uses_memory() {
        assert!(open_files().is_some_and(|count| count > 2));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_seconds().is_some());
    }
}
