mod errors;
mod full;
mod random;
mod reload;
mod routes;
mod secrets;
mod sources;

use std::fs;

use super::*;

fn file(name: &str, text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (
        folder,
        Sources {
            file: Some(path),
            ..Sources::default()
        },
    )
}

fn load(yaml: &str) -> Result<Config, ConfigErrors> {
    let (_folder, sources) = file("natsway.yaml", yaml);
    sources.load()
}

/// The errors, one a line.
fn errors(yaml: &str) -> Vec<String> {
    load(yaml)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn assert_one(yaml: &str, starts: &str, holds: &str) {
    let errors = errors(yaml);
    let fits = matches!(&errors[..], [only] if only.starts_with(starts) && only.contains(holds));
    assert!(fits, "{yaml}\n{errors:#?}");
}
