//! Medians over rounds, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    rounds: Vec<BTreeMap<&'static str, f64>>,
}

/// All lines, in order of appearance.
#[derive(Default)]
pub(crate) struct Report {
    names: Vec<String>,
    lines: BTreeMap<String, Line>,
    targets: Vec<Target>,
    /// How the cost grows, as SVG.
    pub(crate) picture: Option<String>,
}

struct Target {
    what: String,
    value: f64,
    wanted: f64,
    at_least: bool,
}

impl Report {
    /// Adds what one round of `name` found.
    pub(crate) fn add(&mut self, name: &str, found: &[(&'static str, f64)]) {
        if !self.lines.contains_key(name) {
            self.names.push(name.to_owned());
        }
        self.lines
            .entry(name.to_owned())
            .or_default()
            .rounds
            .push(found.iter().copied().collect());
    }

    /// The median of a column over the rounds.
    pub(crate) fn median(&self, name: &str, column: &str) -> Option<f64> {
        let rounds = &self.lines.get(name)?.rounds;
        let mut values: Vec<f64> = rounds
            .iter()
            .filter_map(|round| round.get(column).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// The highest median of a column among the lines whose names begin so.
    pub(crate) fn highest(&self, prefix: &str, column: &str) -> Option<f64> {
        let names = self.names.iter().filter(|name| name.starts_with(prefix));
        names
            .filter_map(|name| self.median(name, column))
            .reduce(f64::max)
    }

    /// Notes how a ratio stands to its target; nothing where a case was not run.
    pub(crate) fn target(&mut self, what: &str, value: Option<f64>, wanted: f64, at_least: bool) {
        if let Some(value) = value {
            self.targets.push(Target {
                what: what.to_owned(),
                value,
                wanted,
                at_least,
            });
        }
    }

    /// The ratio of a column of two lines.
    pub(crate) fn ratio(&self, of: (&str, &str), to: (&str, &str)) -> Option<f64> {
        Some(self.median(of.0, of.1)? / self.median(to.0, to.1)?)
    }

    pub(crate) fn write_json(&self) {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench");
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(
            format!("{dir}/bench.json"),
            serde_json::to_vec_pretty(&self.to_json()).unwrap(),
        )
        .unwrap();
        if let Some(picture) = &self.picture {
            std::fs::write(format!("{dir}/scaling.svg"), picture).unwrap();
        }
    }

    fn to_json(&self) -> Value {
        let lines: Vec<Value> = self
            .names
            .iter()
            .map(|name| json!({"name": name, "rounds": self.lines[name].rounds}))
            .collect();
        let targets: Vec<Value> = self
            .targets
            .iter()
            .map(|t| json!({"what": t.what, "value": t.value, "wanted": t.wanted, "met": t.is_met()}))
            .collect();
        json!({"machine": machine(), "lines": lines, "targets": targets})
    }
}

impl Target {
    fn is_met(&self) -> bool {
        if self.at_least {
            self.value >= self.wanted
        } else {
            self.value <= self.wanted
        }
    }
}

/// What the numbers were measured on.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("\t: unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let nats = std::process::Command::new(
        std::env::var("NATS_SERVER_BIN").unwrap_or_else(|_| "nats-server".into()),
    )
    .arg("--version")
    .output();
    let nats = nats
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .unwrap_or_default();
    let model = model.trim_start_matches(['\t', ':', ' ']);
    format!(
        "{cores} cores, {model}; natsway {}; {nats}",
        env!("CARGO_PKG_VERSION")
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", machine())?;
        for name in &self.names {
            write!(f, "{name:<44}")?;
            let columns: Vec<&'static str> = self.lines[name].rounds[0].keys().copied().collect();
            for column in columns {
                let value = self.median(name, column).unwrap_or_default();
                write!(f, "  {column} {}", number(value))?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for target in &self.targets {
            let (sign, met) = (
                if target.at_least { "≥" } else { "≤" },
                if target.is_met() { "met" } else { "MISSED" },
            );
            writeln!(
                f,
                "{:<64} {:>8.2}  {sign} {:<8} {met}",
                target.what, target.value, target.wanted
            )?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
