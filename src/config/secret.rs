//! Secrets: values that are used and never shown.
//!
//! A secret comes from the environment or from a file. A file is read when it is used, so a rotated
//! one counts at the next connect; what is read keeps no copy beyond its use.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap as _};

use super::text::Words;

/// What is printed in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// A value that neither `Debug` nor `Serialize` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a value from being shown.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The parser of a number would quote it in its error; a password of digits is read as text.
        from.deserialize_any(Words::new("a string", |text: &str| match text {
            REDACTED => {
                Err("stands for a secret that was not printed; put the secret in its place")
            }
            secret => Ok(Self::new(secret)),
        }))
    }
}

/// Whether a header's value is likely a secret, by the header's name.
fn is_secret_header(name: &str) -> bool {
    const WORDS: [&str; 7] = [
        "authorization",
        "cookie",
        "credential",
        "key",
        "password",
        "secret",
        "token",
    ];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Writes headers without the values that are likely secrets.
///
/// # Errors
/// Those of the serializer.
pub(super) fn without_secret_headers<S: Serializer, V: Serialize>(
    headers: &BTreeMap<String, V>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(headers.len()))?;
    for (name, value) in headers {
        match is_secret_header(name) {
            true => map.serialize_entry(name, REDACTED)?,
            false => map.serialize_entry(name, value)?,
        }
    }
    map.end()
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// Where a secret is taken from when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Given directly, by the environment.
    Inline(Secret),
    /// Read at every use.
    File(PathBuf),
}

impl SecretSource {
    /// Reads the secret, without the line break most editors leave at the end.
    ///
    /// # Errors
    /// The file cannot be read or is not UTF-8; the error names its path.
    pub fn read(&self) -> io::Result<Secret> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => fs::read_to_string(path)
                .map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
                .map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                }),
        }
    }

    /// The one of the two that is set.
    pub(crate) fn either(inline: Option<&Secret>, file: Option<&PathBuf>) -> Option<Self> {
        inline
            .cloned()
            .map(Self::Inline)
            .or_else(|| file.cloned().map(Self::File))
    }
}
