//! `docs/configuration.md`, generated from the types, so that it cannot say anything else than they do.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{alternatives, json_schema, takes};

const PREFACE: &str = "\
# Configuration

With nothing configured, natsway listens on `127.0.0.1:4280` (and `[::1]:4280` where IPv6 exists), has its admin listener on
`127.0.0.1:4281` and connects to `nats://127.0.0.1:4222`.

Sources, later ones win:

1. the defaults below;
2. a file: `--config natsway.yaml`, or `NATSWAY_CONFIG`; YAML, TOML or JSON by its extension;
3. the environment: `NATS_URL` as in other NATS tools, then `NATSWAY_<SECTION>__<KEY>`, with `__` between levels and commas between
   the entries of a list: `NATSWAY_NATS__SERVERS=nats://a:4222,nats://b:4222`. An empty variable counts as not set. Of the
   variables that begin with `NATSWAY_` only `NATSWAY_CONFIG` and those with `__` are read, because Kubernetes sets `NATSWAY_PORT` and its like beside a
   Service called natsway;
4. flags: `--listen` (in place of `listen.data`) and `--nats` (in place of `nats.servers`).

Objects are merged key by key, lists are replaced. Unknown keys are errors. All errors are reported together, each with its key's
path, before anything binds: `natsway check` does just that. `natsway config` prints the effective configuration with secrets redacted,
`natsway config --schema` its JSON Schema ([natsway.schema.json](natsway.schema.json)).

Durations are written `250ms`, `2s`, `1m`, `1h`; sizes `65536`, `64KiB`, `1MiB`. Secrets are best given as files (`…_file`), which are read again
whenever they are used, but for `ack_tokens.key_file`, which is read at start and with each reload; or by the environment. User information in a NATS URL is taken as `nats.auth` and never shown.
";

/// Objects several sections have: explained once.
const SHARED: [&str; 5] = ["Subjects", "Concurrency", "Rate", "Breaker", "Buffer"];

/// The reference of every key, in Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = json_schema();
    let mut page = PREFACE.to_owned();
    for (name, section) in properties(schema) {
        heading(&mut page, "##", name, section);
        if name == "api" {
            api(&mut page, section);
        } else {
            table(&mut page, section.get("items").unwrap_or(section));
        }
    }
    page.push_str("\n## Objects used in several places\n");
    for title in SHARED {
        if let Some(object) = titled(schema, title) {
            let _ = write!(page, "\n### {title}\n");
            table(&mut page, object);
        }
    }
    page
}

/// The first object of that title.
fn titled<'s>(schema: &'s Value, title: &str) -> Option<&'s Value> {
    let here = alternatives(schema).find(|schema| schema["title"] == title);
    here.or_else(|| {
        properties(schema)
            .into_iter()
            .find_map(|(_, property)| titled(property, title))
    })
    .or_else(|| titled(schema.get("items")?, title))
}

/// The endpoints get a table each, so that one can be read without the others.
fn api(page: &mut String, section: &Value) {
    let (endpoints, switches): (Vec<_>, Vec<_>) = properties(section)
        .into_iter()
        .partition(|(_, schema)| takes(schema, "object"));
    table_head(page);
    for (name, schema) in switches {
        row(page, name, schema, schema.get("default"));
    }
    for (name, schema) in endpoints {
        heading(page, "###", &format!("api.{name}"), schema);
        table(page, schema);
    }
}

fn heading(page: &mut String, level: &str, name: &str, schema: &Value) {
    let _ = write!(
        page,
        "\n{level} `{name}`\n\n{}\n",
        text(schema, "description")
    );
}

fn table(page: &mut String, schema: &Value) {
    table_head(page);
    rows(page, "", schema, None);
}

fn table_head(page: &mut String) {
    page.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
}

/// One row a key. The default of the object a key is in goes before the key's own.
fn rows(page: &mut String, prefix: &str, schema: &Value, defaults: Option<&Value>) {
    for (name, property) in properties(schema) {
        let key = format!("{prefix}{name}");
        let default = defaults
            .and_then(|object| object.get(name))
            .or_else(|| property.get("default"));
        if properties(property).is_empty() || title(property).is_some() {
            row(page, &key, property, default);
        } else {
            let _ = writeln!(
                page,
                "| **`{key}`** | | | {} |",
                cell(&text(property, "description"))
            );
            rows(page, &format!("{key}."), property, default);
        }
    }
}

fn row(page: &mut String, key: &str, schema: &Value, default: Option<&Value>) {
    let meaning = format!("{}{}", text(schema, "description"), variants(schema));
    let _ = writeln!(
        page,
        "| `{key}` | {} | {} | {} |",
        kind(schema),
        cell(&shown(default)),
        cell(&meaning)
    );
}

/// The keys of an object, in the order of the type.
fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    let objects = alternatives(schema).filter_map(|schema| schema.get("properties")?.as_object());
    objects.flatten().collect()
}

fn title(schema: &Value) -> Option<&str> {
    alternatives(schema).find_map(|schema| schema.get("title")?.as_str())
}

fn kind(schema: &Value) -> String {
    if let Some(title) = title(schema) {
        let shared = SHARED.contains(&title);
        return if shared {
            format!("[{title}](#{})", title.to_lowercase())
        } else {
            title.to_owned()
        };
    }
    if let Some(entry) = schema.get("items") {
        return format!("list of {}", kind(entry));
    }
    if !words(schema).is_empty() {
        return "word".to_owned();
    }
    if takes(schema, "object") {
        return "object".to_owned();
    }
    let kinds = ["boolean", "integer", "number", "string"];
    kinds
        .into_iter()
        .find(|kind| takes(schema, kind))
        .unwrap_or("any")
        .to_owned()
}

/// The words an enum takes, each with what it means.
fn words(schema: &Value) -> Vec<(&str, &str)> {
    let mut words: Vec<(&str, &str)> = Vec::new();
    for schema in alternatives(schema).flat_map(alternatives) {
        let meaning = schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or("");
        let single = schema
            .get("const")
            .and_then(Value::as_str)
            .map(|word| (word, meaning));
        let several = schema
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let all = single
            .into_iter()
            .chain(several.filter_map(|word| Some((word.as_str()?, ""))));
        for word in all {
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words
}

fn variants(schema: &Value) -> String {
    let words = match words(schema) {
        none if none.is_empty() => schema.get("items").map(words).unwrap_or_default(),
        words => words,
    };
    let explained = |(word, meaning): &(&str, &str)| match meaning.trim_end_matches('.') {
        "" => format!("`{word}`"),
        meaning => format!("`{word}`: {}", lower_first(meaning)),
    };
    let all: Vec<String> = words.iter().map(explained).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!(" {}.", all.join("; "))
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

fn shown(default: Option<&Value>) -> String {
    match default {
        None | Some(Value::Null) => "—".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "—".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(Value::Object(object)) => {
            let pairs: Vec<String> = object
                .iter()
                .map(|(key, value)| format!("{key}: {}", plain(value)))
                .collect();
            format!("`{{ {} }}`", pairs.join(", ")).replace("{  }", "{}")
        }
        Some(other) => format!("`{other}`"),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn text(schema: &Value, key: &str) -> String {
    schema
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or("")
        .replace('\n', " ")
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

/// Compares a generated file with the one in the repository; `BLESS=1` writes it.
#[cfg(test)]
pub(super) fn assert_golden(path: &str, generated: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, generated).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == generated,
        "{path} is not what the types say; run `BLESS=1 cargo test --lib config`"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_reference_is_the_one_of_the_types() {
        assert_golden("docs/configuration.md", &reference());
    }
}
