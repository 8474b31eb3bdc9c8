//! Reads the sources, lays them over each other and collects everything that is wrong.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};
use serde_path_to_error::Segment;

use super::{
    Config, ConfigError, ConfigErrors, KeyPath, ListenAddr,
    environment::{self, CONFIG_VARIABLE},
    errors::{Findings, Step},
};

/// Where a configuration comes from. Nothing in here looks around by itself.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; else `NATSWAY_CONFIG` names the file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// `--listen`, in place of `listen.data`.
    pub listen: Vec<String>,
    /// `--nats`, in place of `nats.servers`.
    pub nats: Vec<String>,
}

impl Sources {
    /// The configuration, checked.
    ///
    /// # Errors
    /// Everything that is wrong, or why a source could not be read at all.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        read(self.merged()?)
    }

    /// The admin address alone, so that a probe works whatever else has become of the configuration since the start.
    ///
    /// # Errors
    /// A source cannot be read, or the address is none.
    pub fn admin(&self) -> Result<ListenAddr, ConfigErrors> {
        let tree = self.merged()?;
        match tree.pointer("/listen/admin").and_then(Value::as_str) {
            Some(admin) => admin
                .parse()
                .map_err(|what| ConfigErrors::whole(format!("listen.admin: {what}"))),
            None => Ok(super::Listen::default().admin),
        }
    }

    /// The file to read, if any.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        let variable =
            || environment::lookup(&self.environment, CONFIG_VARIABLE).map(PathBuf::from);
        self.file.clone().or_else(variable)
    }

    fn merged(&self) -> Result<Value, ConfigErrors> {
        // The defaults are a layer like the others, so that `buffer: { messages: 10 }` keeps the default for bytes.
        let defaults = config::Config::try_from(&Config::default()).map_err(ConfigErrors::whole)?;
        let mut sources = config::Config::builder().add_source(defaults);
        if let Some(file) = self.file() {
            sources = sources.add_source(config::File::from(file));
        }
        for layer in [environment::layer(&self.environment), self.flags()] {
            sources =
                sources.add_source(config::Config::try_from(&layer).map_err(ConfigErrors::whole)?);
        }
        let merged = sources.build().map_err(ConfigErrors::whole)?;
        let mut tree = merged.try_deserialize().map_err(ConfigErrors::whole)?;
        drop_nulls(&mut tree);
        Ok(tree)
    }

    fn flags(&self) -> Value {
        let mut layer = json!({});
        if !self.listen.is_empty() {
            layer["listen"]["data"] = json!(self.listen);
        }
        if !self.nats.is_empty() {
            let servers: Vec<&str> = self.nats.iter().flat_map(|list| list.split(',')).collect();
            layer["nats"]["servers"] = json!(servers);
        }
        layer
    }
}

/// A key without a value (`nats:` with all its lines commented out) is a key that was not given.
fn drop_nulls(tree: &mut Value) {
    match tree {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Reads the tree; where a value cannot be read, notes why, takes it out and reads on, so that one
/// mistake does not hide the next.
fn read(mut tree: Value) -> Result<Config, ConfigErrors> {
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut removed = Removed::default();
    let mut config = loop {
        match serde_path_to_error::deserialize::<_, Config>(&tree) {
            Ok(config) => break config,
            Err(error) => {
                let at = steps(error.path());
                let original = removed.original(&at);
                // A key that is missing because its value was taken out is no news.
                if !errors
                    .iter()
                    .any(|error| error.at != original && error.at.touches(&original))
                {
                    errors.push(ConfigError {
                        at: original,
                        what: plain(error.inner()),
                    });
                }
                if !removed.remove(&mut tree, &at) {
                    return Err(ConfigErrors(errors));
                }
            }
        }
    };
    let mut findings = Findings::default();
    std::sync::Arc::make_mut(&mut config.nats).move_credentials(&mut findings);
    config.check(&mut findings);
    let unread = errors.clone();
    for found in findings.take() {
        let at = removed.original(&found.at);
        // What only follows from a value that could not be read is no news.
        if !unread.iter().any(|error| error.at.touches(&at)) {
            errors.push(ConfigError { at, ..found });
        }
    }
    errors.sort_by(|a, b| a.at.cmp(&b.at));
    if errors.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors(errors))
    }
}

fn steps(path: &serde_path_to_error::Path) -> KeyPath {
    let known = path.iter().map_while(|segment| match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    KeyPath(known.collect())
}

/// The error in the words of a configuration rather than of the program.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (what, expected) = text.split_once(", expected ").unwrap_or((&text, ""));
    let what = what
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace("unknown variant", "unknown word");
    match expected {
        "" => what,
        "usize" | "u64" | "u32" => format!("{what}, expected a whole number"),
        "f64" => format!("{what}, expected a number"),
        _ if expected.starts_with("struct ") => format!("{what}, expected an object"),
        _ => format!("{what}, expected {expected}"),
    }
}

/// What was taken out of lists, so that errors keep naming positions in the list as it was written.
#[derive(Default)]
struct Removed(BTreeMap<KeyPath, Vec<usize>>);

impl Removed {
    /// The path before anything was taken out.
    fn original(&self, at: &KeyPath) -> KeyPath {
        let mut original = KeyPath::default();
        for step in &at.0 {
            let step = match step {
                Step::Index(index) => Step::Index(self.index_before(&original, *index)),
                Step::Key(_) => step.clone(),
            };
            original.0.push(step);
        }
        original
    }

    fn index_before(&self, list: &KeyPath, index: usize) -> usize {
        let removed = self.0.get(list).map_or(&[][..], Vec::as_slice);
        removed.iter().fold(
            index,
            |index, removed| if *removed <= index { index + 1 } else { index },
        )
    }

    /// Takes a value out; `false` when there is none.
    fn remove(&mut self, tree: &mut Value, at: &KeyPath) -> bool {
        let Some((last, parents)) = at.0.split_last() else {
            return false;
        };
        let parent = parents.iter().try_fold(tree, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        });
        match (parent, last) {
            (Some(Value::Object(object)), Step::Key(key)) => object.remove(key).is_some(),
            (Some(Value::Array(list)), Step::Index(index)) if *index < list.len() => {
                list.remove(*index);
                let mut original = self.original(at);
                if let Some(Step::Index(index)) = original.0.pop() {
                    let removed = self.0.entry(original).or_default();
                    removed.push(index);
                    removed.sort_unstable();
                }
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
