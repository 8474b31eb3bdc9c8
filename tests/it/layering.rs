//! Who may import whom. The table is read from the top: a module may use what stands below it, and
//! the leaves; `nats` knows no HTTP, `translate` knows no tokio, `api` never sees the whole `Config`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Outermost first. Modules of one row do not know each other, unless a pair below says so.
const ROWS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["admin"],
    &["router", "server"],
    &["api"],
    &["layers"],
    &["problem"],
    &["nats"],
    &["translate"],
    &["subject"],
];

/// Anybody may use these; they use nothing but each other, `subject` and `translate`.
const LEAVES: &[&str] = &["config", "lifecycle", "telemetry", "wake", "workers"];

/// Crates that would carry a concern into a module that must not have it.
const FORBIDDEN_CRATES: &[(&str, &[&str], &str)] = &[
    (
        "nats",
        &["http", "axum", "hyper", "tower", "tower_http"],
        "`nats` knows no HTTP",
    ),
    (
        "translate",
        &["tokio", "axum", "hyper"],
        "`translate` is pure: no I/O, no runtime",
    ),
    (
        "subject",
        &["tokio", "axum", "hyper", "http"],
        "`subject` is pure: no I/O, no HTTP",
    ),
];

struct Import {
    file: PathBuf,
    line: usize,
    /// The module of ours that imports, such as `api`.
    from: String,
    /// What it names: `crate::nats::Failure`, `tokio::time`.
    path: String,
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let broken: Vec<String> = imports()
        .iter()
        .filter_map(|import| Some((import, judge(import)?)))
        .map(|(import, rule)| describe(import, &rule))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_module_has_its_place_in_the_table() {
    let placed: BTreeSet<&str> = ROWS.iter().flat_map(|row| row.iter().copied()).collect();
    let found: BTreeSet<String> = imports().into_iter().map(|import| import.from).collect();
    for module in found {
        let known = placed.contains(module.as_str())
            || LEAVES.contains(&module.as_str())
            || module == "lib";
        assert!(
            known,
            "`{module}` is not in the table of tests/it/layering.rs; give it a place"
        );
    }
}

#[test]
fn the_rules_catch_what_they_forbid() {
    let import = |from: &str, path: &str| Import {
        file: PathBuf::from("x.rs"),
        line: 1,
        from: from.to_owned(),
        path: path.to_owned(),
    };
    for (from, path) in [
        ("nats", "crate::problem::Problem"),
        ("nats", "axum::Router"),
        ("translate", "tokio::time"),
        ("layers", "crate::api::session"),
        ("router", "crate::server"),
        ("api", "crate::config::Config"),
        ("config", "crate::nats::Nats"),
    ] {
        assert!(
            judge(&import(from, path)).is_some(),
            "{from} may not use {path}"
        );
    }
    for (from, path) in [
        ("api", "crate::nats::Nats"),
        ("api", "crate::config::PublishSection"),
        ("problem", "crate::nats::Failure"),
        ("nats", "tokio::time"),
        ("config", "crate::subject::SubjectPattern"),
        ("main", "crate::cli"),
    ] {
        let verdict = judge(&import(from, path));
        assert!(verdict.is_none(), "{from} may use {path}: {verdict:?}");
    }
}

/// The sentence of the rule that an import breaks, or nothing.
fn judge(import: &Import) -> Option<String> {
    let from = import.from.as_str();
    let mut parts = import.path.split("::");
    let first = parts.next()?;
    if first != "crate" {
        let rule = FORBIDDEN_CRATES
            .iter()
            .find(|(module, crates, _)| *module == from && crates.contains(&first));
        return rule.map(|(_, _, sentence)| (*sentence).to_owned());
    }
    let to = parts.next()?;
    if from == to || from == "lib" {
        return None;
    }
    if from == "api" && to == "config" && parts.next() == Some("Config") {
        return Some("`api` never sees the whole `Config`, only its own section".to_owned());
    }
    if LEAVES.contains(&to) {
        return None;
    }
    let row = |module: &str| ROWS.iter().position(|row| row.contains(&module));
    if LEAVES.contains(&from) {
        let allowed = matches!(to, "subject" | "translate");
        return (!allowed).then(|| format!("`{from}` is a leaf and may not use `{to}`"));
    }
    match (row(from), row(to)) {
        (Some(from_row), Some(to_row)) if from_row < to_row => None,
        _ => Some(format!(
            "`{from}` may use what stands below it, and `{to}` does not"
        )),
    }
}

fn describe(import: &Import, rule: &str) -> String {
    format!(
        "{}:{}: {}: {rule}",
        import.file.display(),
        import.line,
        import.path
    )
}

/// Every `use` and every inline `crate::…` path of `src`, outside of tests.
fn imports() -> Vec<Import> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    files.iter().flat_map(|file| read(&source, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(source: &Path, file: &Path) -> Vec<Import> {
    let relative = file.strip_prefix(source).expect("below src");
    let first = relative.components().next().expect("a name");
    let from = Path::new(first.as_os_str()).file_stem().expect("a name");
    let from = from.to_string_lossy().into_owned();
    let text = fs::read_to_string(file).expect("source is UTF-8");
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // Tests stand at the end of a file and may use anything.
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        found.extend(paths(code).into_iter().map(|path| Import {
            file: relative.to_owned(),
            line: index + 1,
            from: from.clone(),
            path,
        }));
    }
    found
}

/// The paths named in one line: after `use`, and wherever `crate::` or `natsway::` stands.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let path_at = |at: usize| -> String {
        let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        code[at..].chars().take_while(|c| is_path(*c)).collect()
    };
    for name in ["crate::", "natsway::"] {
        // A name in quotes is the target of a log line, not an import.
        let named = code
            .match_indices(name)
            .filter(|(at, _)| !code[..*at].ends_with('"'));
        for (at, _) in named {
            let path = path_at(at).replacen("natsway::", "crate::", 1);
            let rest = code[at + name.len()..].trim_start();
            match rest.strip_prefix('{') {
                // `use crate::{a, b}` names several modules at once.
                Some(group) => found.extend(
                    group
                        .split(['{', ',', '}', ';'])
                        .map(str::trim)
                        .filter(|word| word.starts_with(char::is_alphabetic))
                        .map(|word| format!("crate::{word}")),
                ),
                None => found.push(path),
            }
        }
    }
    let trimmed = code.trim_start();
    let used = trimmed
        .strip_prefix("pub use ")
        .or_else(|| trimmed.strip_prefix("pub(crate) use "))
        .or_else(|| trimmed.strip_prefix("use "));
    if let Some(used) = used
        && !used.starts_with("crate")
        && !used.starts_with("natsway")
    {
        let at = code.len() - used.len();
        found.push(path_at(at));
    }
    found
}
