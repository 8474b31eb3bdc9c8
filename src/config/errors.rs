//! Everything that is wrong with a configuration, each with its key's path.

use std::{fmt, fs, mem, path::Path};

/// Where a value stands: `routes[2].match.path`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub(crate) Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Into an object.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl KeyPath {
    /// Whether one of the two lies within the other.
    pub(crate) fn touches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where; empty when no key is to blame, as for a file that cannot be read.
    pub at: KeyPath,
    /// What, and what would be right.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.0.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.at, self.what)
        }
    }
}

/// All that is wrong, in the order of the keys. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// A single error that belongs to no key.
    pub(crate) fn whole(what: impl fmt::Display) -> Self {
        Self(vec![ConfigError {
            at: KeyPath::default(),
            what: what.to_string(),
        }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if position == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Collects what is wrong while the sections check themselves.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    at: KeyPath,
    found: Vec<ConfigError>,
}

impl Findings {
    /// Checks what lies under a key.
    pub(crate) fn under(&mut self, key: &str, check: impl FnOnce(&mut Self)) {
        self.step(Step::Key(key.to_owned()), check);
    }

    /// Checks an entry of a list.
    pub(crate) fn entry(&mut self, index: usize, check: impl FnOnce(&mut Self)) {
        self.step(Step::Index(index), check);
    }

    fn step(&mut self, step: Step, check: impl FnOnce(&mut Self)) {
        self.at.0.push(step);
        check(self);
        self.at.0.pop();
    }

    /// The value here is wrong.
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.found.push(ConfigError {
            at: self.at.clone(),
            what: what.into(),
        });
    }

    /// The value under a key is wrong.
    pub(crate) fn wrong_at(&mut self, key: &str, what: impl Into<String>) {
        self.under(key, |findings| findings.wrong(what));
    }

    /// The value under a key is wrong unless a condition holds.
    pub(crate) fn require(&mut self, holds: bool, key: &str, what: &str) {
        if !holds {
            self.wrong_at(key, what);
        }
    }

    /// The file under a key, where one is named, must be readable now: better said here than at the first connect.
    pub(crate) fn readable(&mut self, key: &str, file: Option<&Path>) {
        let Some(file) = file else { return };
        if let Err(error) = fs::read(file) {
            self.wrong_at(key, format!("{} cannot be read: {error}", file.display()));
        }
    }

    /// What was found.
    pub(crate) fn take(&mut self) -> Vec<ConfigError> {
        mem::take(&mut self.found)
    }
}
