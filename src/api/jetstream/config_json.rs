//! The configuration of a stream or a consumer: NATS's own JSON, passed through unread.
//!
//! natsway does not know every member, and need not: the server does. It looks only at what carries
//! a right (the name, a consumer's filters), and at what came back.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::problem::{Code, Problem};

/// The members as they were sent, byte for byte.
#[derive(Debug)]
pub(super) struct ConfigJson {
    members: BTreeMap<String, Box<RawValue>>,
}

impl ConfigJson {
    /// Reads an object. The server matches names without regard to case, by Unicode's rules, so any
    /// other spelling than its own is refused: it could say something else than what was looked at.
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidBody).detail(detail);
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body)
            .map_err(|error| invalid(format!("the body is not a JSON object: {error}")))?;
        let is_plain = |name: &String| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        match members.keys().find(|name| !is_plain(name)) {
            Some(name) => Err(invalid(format!(
                "`{}` is no member of a configuration: names are lower case",
                name.escape_debug()
            ))),
            None => Ok(Self { members }),
        }
    }

    /// A member's value.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let raw = self.members.get(name)?;
        serde_json::from_str(raw.get()).ok()
    }

    /// Sets a member that the path says, or refuses another value for it.
    pub(super) fn must_be(&mut self, name: &'static str, value: &str) -> Result<(), Problem> {
        if let Some(given) = self.get(name)
            && given != value
        {
            return Err(Problem::new(Code::InvalidBody)
                .detail(format!("`{name}` must be the name in the path, `{value}`")));
        }
        self.set(name, &Value::from(value));
        Ok(())
    }

    fn set(&mut self, name: &str, value: &Value) {
        let raw = serde_json::value::to_raw_value(value).expect("a value can be written as JSON");
        self.members.insert(name.to_owned(), raw);
    }

    /// The members, to be written as an object.
    pub(super) const fn members(&self) -> &BTreeMap<String, Box<RawValue>> {
        &self.members
    }

    /// Which members were sent, and are missing in what the server took: an older one drops what it
    /// does not know. A member that is empty or zero says nothing, and the server leaves it out.
    pub(super) fn ignored(&self, taken: &Value) -> Vec<String> {
        let mut ignored = Vec::new();
        for (name, raw) in &self.members {
            let sent = serde_json::from_str(raw.get()).unwrap_or_default();
            missing(name, &sent, taken.get(name), &mut ignored);
        }
        ignored
    }
}

fn missing(path: &str, sent: &Value, taken: Option<&Value>, ignored: &mut Vec<String>) {
    match (sent, taken) {
        (sent, _) if says_nothing(sent) => {}
        (_, None) => ignored.push(path.to_owned()),
        (Value::Object(sent), Some(Value::Object(taken))) => {
            for (name, value) in sent {
                missing(&format!("{path}.{name}"), value, taken.get(name), ignored);
            }
        }
        _ => {}
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_looked_at_is_passed_through_byte_for_byte() {
        let mut config = ConfigJson::read(br#"{"max_age": 1e9,"future":{"a":[1.0]}}"#).unwrap();
        config.must_be("name", "ORDERS").unwrap();
        let text = serde_json::to_string(config.members()).unwrap();
        assert_eq!(
            text,
            r#"{"future":{"a":[1.0]},"max_age":1e9,"name":"ORDERS"}"#
        );
    }

    #[test]
    fn the_name_in_the_body_must_be_that_of_the_path() {
        let mut config = ConfigJson::read(br#"{"name":"ORDERS"}"#).unwrap();
        assert!(config.must_be("name", "ORDERS").is_ok());
        assert!(config.must_be("name", "OTHER").is_err());
        let mut config = ConfigJson::read(br#"{"name":7}"#).unwrap();
        assert!(config.must_be("name", "7").is_err());
    }

    #[test]
    fn another_spelling_of_a_member_is_refused() {
        for body in [
            r#"{"Name":"x"}"#,
            r#"{"filter_\u017fubject":"x"}"#,
            r#"{"FILTER_SUBJECT":"x"}"#,
            r#"{"a b":1}"#,
            "[]",
            "7",
            "",
            "{",
        ] {
            let problem = ConfigJson::read(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidBody, "{body}");
        }
    }

    #[test]
    fn what_the_server_dropped_is_named() {
        let sent = json!({"subjects": ["a"], "allow_msg_ttl": true, "sealed": false, "max_age": 0,
            "consumer_limits": {"max_ack_pending": 5, "future": 1}, "placement": {"tags": []},
            "metadata": {}, "num_replicas": 1});
        let config = ConfigJson::read(sent.to_string().as_bytes()).unwrap();
        let taken = json!({"subjects": ["a"], "consumer_limits": {"max_ack_pending": 5},
            "num_replicas": 1});
        assert_eq!(
            config.ignored(&taken),
            ["allow_msg_ttl", "consumer_limits.future"]
        );
        assert!(config.ignored(&sent).is_empty());
    }
}
