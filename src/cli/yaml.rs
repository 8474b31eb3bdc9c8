//! Writes a tree as YAML, in the plain style people write configuration in.

use std::fmt::Write;

use serde_json::Value;

/// The tree as a YAML document.
pub(super) fn write(tree: &Value) -> String {
    let mut page = String::new();
    block(&mut page, 0, tree);
    page
}

fn block(page: &mut String, depth: usize, value: &Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let _ = write!(page, "{:depth$}{}:", "", text(key));
                under(page, depth, value);
            }
        }
        Value::Array(list) => {
            for entry in list {
                let mut inner = String::new();
                block(&mut inner, depth + 2, entry);
                // The first line of the entry moves up behind its dash.
                let _ = write!(page, "{:depth$}- {}", "", inner.trim_start());
            }
        }
        other => {
            let _ = writeln!(page, "{}", scalar(other));
        }
    }
}

/// What stands behind a key: a scalar or an empty collection on its line, the rest below.
fn under(page: &mut String, depth: usize, value: &Value) {
    let short = match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    };
    if short {
        let _ = writeln!(page, " {}", scalar(value));
    } else {
        page.push('\n');
        block(page, depth + 2, value);
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), text)
}

/// Plain where no YAML reader could take it for something else, else quoted as JSON, which is YAML.
fn text(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
    let like_a_word =
        text.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '/' | '_'));
    let like_another_kind = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
    );
    let duration_or_size = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_alphabetic())
        && !text.starts_with("0x")
        && !text.starts_with("0o");
    if text.bytes().all(safe)
        && (like_a_word || duration_or_size)
        && !like_another_kind
        && !like_exponent(text)
    {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

/// `1e5` and `12E` are numbers to some readers.
fn like_exponent(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'e' | b'E' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use serde_json::json;

    #[test]
    fn it_is_written_as_people_write_it() {
        let tree = json!({
            "a": {"b": "word", "c": "5s", "d": "off", "e": ">", "f": [], "g": {}, "h": "1e5", "i": ""},
            "list": ["nats://a", {"x": 1, "y": {"z": [true, null]}}, [1, 2]],
        });
        let page = "a:\n  b: word\n  c: 5s\n  d: \"off\"\n  e: \">\"\n  f: []\n  g: {}\n  h: \"1e5\"\n  i: \"\"\n\
                    list:\n  - \"nats://a\"\n  - x: 1\n    \"y\":\n      z:\n        - true\n        - null\n  - - 1\n    - 2\n";
        assert_eq!(write(&tree), page);
    }

    #[test]
    fn what_is_printed_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("printed.yaml");
        let route = r#"{"routes": [{"name": "a", "match": {"method": "POST", "path": "/a/{x}"},
            "publish": {"subject": "a.{x}"}, "headers": {"set": {"Odd": "it's: \"{query.q}\" # no"}}}]}"#;
        let given = folder.path().join("given.json");
        std::fs::write(&given, route).unwrap();
        let given = Sources {
            file: Some(given),
            ..Sources::default()
        }
        .load()
        .unwrap();
        for config in [Config::default(), given] {
            std::fs::write(&path, write(&super::super::tree(&config))).unwrap();
            let printed = Sources {
                file: Some(path.clone()),
                ..Sources::default()
            };
            assert_eq!(printed.load(), Ok(config));
        }
    }
}
