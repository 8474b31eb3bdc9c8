//! The JSON Schema of a configuration file, and what the schema says of one place in it.

use std::sync::LazyLock;

use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value;

use super::Config;

/// The JSON Schema (2020-12) of a configuration file.
#[must_use]
pub fn json_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(generate);
    &SCHEMA
}

/// The same, for who needs it once.
pub(super) fn generate() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Config>()
        .to_value();
    schema["title"] = "natsway".into();
    schema
}

/// For an object whose keys all have defaults where it stands: who gives one of them need not give the others.
pub(super) fn defaults_are_merged(schema: &mut Schema) {
    schema.remove("required");
}

/// What may stand under a path of keys.
pub(super) fn at<'s>(schema: &'s Value, keys: &[String]) -> Option<&'s Value> {
    keys.iter().try_fold(schema, |schema, key| {
        alternatives(schema).find_map(|schema| schema.get("properties")?.get(key))
    })
}

/// Whether a value of this JSON type may stand there.
pub(super) fn takes(schema: &Value, kind: &str) -> bool {
    alternatives(schema).any(|schema| match &schema["type"] {
        Value::String(only) => only == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    })
}

/// The schema itself, and each of what it offers a choice of.
pub(super) fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    let offered = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| schema.get(key)?.as_array())
        .flatten();
    std::iter::once(schema).chain(offered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_the_one_of_the_types() {
        crate::config::docs::assert_golden(
            "docs/natsway.schema.json",
            &format!("{:#}\n", json_schema()),
        );
    }
}
