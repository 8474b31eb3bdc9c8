//! Every key counts after a reload, or says that it does not.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::config::schema::{alternatives, json_schema, takes};

/// Keys, and sections with all their keys, that a reload puts in force. A new key must be listed here, with
/// what does that, or be named by [`Config::needs_restart`].
const RELOADED: [&str; 20] = [
    // The routes are built anew, from all there is in these.
    "api",
    "routes",
    "cors",
    "ack_tokens",
    "http.body_timeout",
    "http.compression",
    "streams.max_age",
    "telemetry.log.access",
    "telemetry.traces.sample",
    "telemetry.traces.trust",
    // Handed to what outlives the routes.
    "api.jetstream.catchups_max",
    "api.subscribe.streams_max",
    "http.connections_max",
    "http.header_timeout",
    "http.idle_timeout",
    "memory.bodies",
    "memory.streams",
    "streams.keep_alive",
    "telemetry.log.level",
    // Looked up when it is needed.
    "shutdown",
];

type Key<'s> = (String, String, &'s Value);

/// The path of every key that takes a value, and what the schema says on the way to it.
fn keys<'s>(schema: &'s Value, path: &str, said: &str, found: &mut Vec<Key<'s>>) {
    for offered in alternatives(schema) {
        let properties = offered.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let path = format!("{path}{name}");
            let description = property["description"].as_str().unwrap_or_default();
            let said = format!("{said}{description}\n");
            let before = found.len();
            keys(property, &format!("{path}."), &said, found);
            if found.len() == before {
                found.push((path, said, property));
            }
        }
    }
}

fn lies_in(key: &str, section: &str) -> bool {
    let rest = key.strip_prefix(section);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Values of every kind, of which each key takes one that is not its default.
fn candidates() -> Vec<Value> {
    vec![
        json!(true),
        json!(false),
        json!(7),
        json!(70_000),
        json!("7s"),
        json!("70ms"),
        json!("70s"),
        json!("2s"),
        json!("7MiB"),
        json!(0.7),
        json!("7/s"),
        json!("client_ip"),
        json!("debug"),
        json!("link"),
        json!("text"),
        json!("all"),
        json!("stream"),
        json!("wait"),
        json!("fail"),
        json!("end"),
        json!("http://seven:7"),
        json!("127.0.0.1:7"),
        json!("Cargo.toml"),
        json!("7"),
        json!(["nats://seven:7"]),
        json!(["127.0.0.1:7"]),
        json!(["https://seven.example"]),
        json!(["seven"]),
    ]
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        _ => "array",
    }
}

fn put(tree: &mut Value, path: &[&str], value: Value) {
    let mut place = tree;
    for name in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*name];
    }
    *place = value;
}

/// Keys that make no sense without another one beside them.
const NEEDS: [(&str, &str, &str); 4] = [
    ("rate.burst", "limit", "7/s"),
    ("rate.key", "limit", "7/s"),
    ("buffer.messages", "bytes", "7MiB"),
    ("buffer.bytes", "messages", "7"),
];

/// The default configuration with another value under this key.
fn with_another(key: &str, schema: &Value) -> Option<Config> {
    let path: Vec<&str> = key.split('.').collect();
    let running = Config::default();
    let fitting = candidates().into_iter();
    let mut fitting = fitting.filter(|value| takes(schema, kind(value)));
    fitting.find_map(|value| {
        let mut tree = json!({});
        for (_, other, value) in NEEDS.iter().filter(|(one, ..)| key.ends_with(one)) {
            let value = value
                .parse::<u64>()
                .map_or_else(|_| json!(value), |n| json!(n));
            let (_, beside) = path.split_last().unwrap();
            put(&mut tree, &[beside, &[other]].concat(), value);
        }
        put(&mut tree, &path, value);
        let config = serde_json::from_value(tree).ok();
        config.filter(|config| *config != running)
    })
}

#[test]
fn every_key_counts_after_a_reload_or_says_that_it_needs_a_restart() {
    let running = Config::default();
    let mut found = Vec::new();
    keys(json_schema(), "", "", &mut found);
    assert!(found.len() > 100, "{found:?}");
    let mut met: BTreeSet<&&str> = BTreeSet::new();
    let mut without_value = Vec::new();
    for (key, said, schema) in found {
        let listed: Vec<_> = RELOADED.iter().filter(|it| lies_in(&key, it)).collect();
        met.extend(listed.iter().copied());
        let documented = said.contains("A change needs a restart.");
        // A route is a list's entry; all of it is built anew.
        let named: Vec<_> = match key.starts_with("routes") {
            true => Vec::new(),
            false => {
                let Some(new) = with_another(&key, schema) else {
                    without_value.push(key);
                    continue;
                };
                let named = running.needs_restart(&new);
                let kept = new.clone().keeping_restart_sections_of(&running);
                assert_eq!(
                    kept == running,
                    !named.is_empty(),
                    "{key}: what needs a restart must not seem to be in force, and all else must be"
                );
                assert_eq!(
                    kept.needs_restart(&new),
                    named,
                    "{key}: named again next time"
                );
                named
            }
        };
        let named = named.iter().any(|section| lies_in(&key, section));
        assert_eq!(
            named, documented,
            "{key}: its description and `needs_restart` disagree"
        );
        assert_ne!(
            named,
            !listed.is_empty(),
            "{key}: either a reload puts it in force or it needs a restart; see RELOADED"
        );
    }
    assert!(
        without_value.is_empty(),
        "no candidate is legal and not the default for {without_value:?}; add one"
    );
    for section in RELOADED {
        assert!(met.contains(&section), "{section} is no key");
    }
}

#[test]
fn a_reload_tells_what_needs_a_restart() {
    let running = Config::default();
    let new = load("nats: { name: other }\nshutdown: { grace: 5s }").unwrap();
    assert_eq!(running.needs_restart(&new), ["nats"]);
    let kept = new.keeping_restart_sections_of(&running);
    assert_eq!(
        (&*kept.nats.name, kept.shutdown.grace),
        ("natsway", Duration::from_secs(5))
    );
}
