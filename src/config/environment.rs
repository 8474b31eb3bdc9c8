//! The environment as a source: `NATSWAY_NATS__SERVERS=nats://a:4222,nats://b:4222`.
//!
//! Only `NATSWAY_CONFIG` and names with `__` are read. Kubernetes puts `NATSWAY_PORT`,
//! `NATSWAY_SERVICE_HOST` and their like into every pod beside a Service called natsway; they have none.

use serde_json::{Map, Number, Value, json};

use super::schema;

/// Names the configuration file.
pub(super) const CONFIG_VARIABLE: &str = "NATSWAY_CONFIG";
const PREFIX: &str = "NATSWAY_";
/// What other NATS tools read. It stands below `NATSWAY_NATS__SERVERS`, which was meant for natsway alone.
const NATS_URL: &str = "NATS_URL";

/// The value of a variable; an empty one counts as not set, as container tools cannot unset one.
pub(super) fn lookup<'e>(environment: &'e [(String, String)], name: &str) -> Option<&'e str> {
    environment
        .iter()
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

/// The environment as a tree like a file's.
pub(super) fn layer(environment: &[(String, String)]) -> Value {
    let url = lookup(environment, NATS_URL);
    let mut own: Vec<(Vec<String>, &str)> = environment
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((keys(name)?, value.as_str())))
        .collect();
    // The shorter first: `NATSWAY_API__PUBLISH={…}` is the ground on which `NATSWAY_API__PUBLISH__TIMEOUT` stands.
    own.sort();
    let mut layer = json!({});
    if url.is_none() && own.is_empty() {
        return layer;
    }
    // Made only for this, and not kept: it is large.
    let schema = schema::generate();
    if let Some(url) = url {
        let servers = ["nats".to_owned(), "servers".to_owned()];
        put(&mut layer, &servers, &schema, url);
    }
    for (keys, value) in own {
        put(&mut layer, &keys, &schema, value);
    }
    layer
}

fn keys(name: &str) -> Option<Vec<String>> {
    let keys = name.strip_prefix(PREFIX)?;
    keys.contains("__").then(|| {
        keys.to_ascii_lowercase()
            .split("__")
            .map(str::to_owned)
            .collect()
    })
}

fn put(layer: &mut Value, keys: &[String], schema: &Value, text: &str) {
    let Some((last, parents)) = keys.split_last() else {
        return;
    };
    let mut place = layer;
    for key in parents {
        if !place.get(key).is_some_and(Value::is_object) {
            place[key] = Value::Object(Map::new());
        }
        place = &mut place[key];
    }
    place[last] = value(text, schema::at(schema, keys));
}

/// The text as the kind of value its place takes; what does not fit stays text and is reported with its path.
fn value(text: &str, schema: Option<&Value>) -> Value {
    let Some(schema) = schema else {
        return text.into();
    };
    let takes = |kind| schema::takes(schema, kind);
    if takes("string") {
        return text.into();
    }
    if takes("array") {
        let entries = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        return entries
            .map(|entry| value(entry, schema.get("items")))
            .collect();
    }
    let parsed = match text {
        "true" | "false" if takes("boolean") => Some(Value::Bool(text == "true")),
        _ if takes("integer") => text.parse().ok().map(|number: u64| number.into()),
        _ if takes("number") => text
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number),
        _ if takes("object") && text.starts_with('{') => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer_of(variables: &[(&str, &str)]) -> Value {
        let owned: Vec<_> = variables
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        layer(&owned)
    }

    #[test]
    fn a_value_takes_the_kind_its_place_has() {
        let layer = layer_of(&[
            ("NATSWAY_NATS__SERVERS", "nats://a:4222, nats://b:4222"),
            ("NATSWAY_NATS__CONNECTIONS", "3"),
            ("NATSWAY_NATS__AUTH__PASSWORD", "007"),
            ("NATSWAY_API__MANAGE", "true"),
            ("NATSWAY_API__BATCH", "false"),
            ("NATSWAY_API__PUBLISH__SUBJECTS__ALLOW", "orders.>"),
            ("NATSWAY_API__PUBLISH__RATE__BURST", "5"),
            ("NATSWAY_TELEMETRY__TRACES__SAMPLE", "0.5"),
            ("NATSWAY_RUNTIME__WORKERS", "4"),
            ("NATSWAY_HTTP__CONNECTIONS_MAX", "many"),
        ]);
        assert_eq!(
            layer,
            json!({
                "nats": {
                    "servers": ["nats://a:4222", "nats://b:4222"], "connections": 3, "auth": {"password": "007"},
                },
                "api": {
                    "manage": true, "batch": false,
                    "publish": {"subjects": {"allow": ["orders.>"]}, "rate": {"burst": 5}},
                },
                "telemetry": {"traces": {"sample": 0.5}},
                "runtime": {"workers": "4"},
                "http": {"connections_max": "many"},
            })
        );
    }

    #[test]
    fn what_kubernetes_injects_is_not_read() {
        let injected = [
            ("NATSWAY_PORT", "tcp://10.0.0.1:4280"),
            ("NATSWAY_PORT_4280_TCP", "tcp://10.0.0.1:4280"),
            ("NATSWAY_PORT_4280_TCP_ADDR", "10.0.0.1"),
            ("NATSWAY_SERVICE_HOST", "10.0.0.1"),
            ("NATSWAY_SERVICE_PORT_HTTP", "4280"),
            ("NATS_PORT", "tcp://10.0.0.2:4222"),
            ("NATSWAY_NATS__NAME", ""),
        ];
        assert_eq!(layer_of(&injected), json!({}));
    }

    #[test]
    fn nats_url_stands_below_natsways_own_variable() {
        let own = ("NATSWAY_NATS__SERVERS", "nats://own");
        assert_eq!(
            layer_of(&[("NATS_URL", "nats://a,nats://b")])["nats"]["servers"],
            json!(["nats://a", "nats://b"])
        );
        assert_eq!(
            layer_of(&[own, ("NATS_URL", "nats://a")])["nats"]["servers"],
            json!(["nats://own"])
        );
    }
}
