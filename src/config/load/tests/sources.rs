//! Where a configuration comes from: files, the environment, flags, and which of them wins.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::ListenAddr;

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn nothing_configured_is_the_defaults() {
    assert_eq!(Sources::default().load(), Ok(Config::default()));
    assert_eq!(load("nats:\nroutes:\n# nothing\n"), Ok(Config::default()));
}

#[test]
fn objects_are_merged_key_by_key() {
    let config =
        load("nats: { buffer: { messages: 10 } }\napi: { batch: { concurrency: { limit: 2 } } }")
            .unwrap();
    assert_eq!(
        (config.nats.buffer.messages, config.nats.buffer.bytes),
        (10, 32 << 20)
    );
    assert_eq!(
        (
            config.api.batch.concurrency.limit,
            config.api.batch.concurrency.queue
        ),
        (2, 16)
    );
}

#[test]
fn toml_is_read_too() {
    let (_folder, sources) = file(
        "natsway.toml",
        "[nats]\nconnections = 3\n[shutdown]\ngrace = \"5s\"\n",
    );
    let config = sources.load().unwrap();
    assert_eq!(
        (config.nats.connections, config.shutdown.grace),
        (3, Duration::from_secs(5))
    );
}

#[test]
fn later_sources_win() {
    let (_folder, mut sources) = file(
        "natsway.yaml",
        "nats: {name: file, connections: 2, servers: [\"nats://file\"]}",
    );
    sources.environment = environment(&[
        ("NATSWAY_NATS__CONNECTIONS", "3"),
        ("NATSWAY_NATS__SERVERS", "nats://env"),
        ("NATS_URL", "nats://url"),
    ]);
    let nats = sources.load().unwrap().nats;
    assert_eq!(
        (&*nats.name, nats.connections, nats.servers[0].as_str()),
        ("file", 3, "nats://env")
    );
    sources.nats = vec!["nats://flag,nats://other".to_owned()];
    sources.listen = vec!["127.0.0.1:0".to_owned()];
    let config = sources.load().unwrap();
    assert_eq!(
        config
            .nats
            .servers
            .iter()
            .map(|server| server.as_str())
            .collect::<Vec<_>>(),
        ["nats://flag", "nats://other"]
    );
    assert_eq!(config.listen.data, [ListenAddr::tcp("127.0.0.1", 0)]);
}

#[test]
fn the_environment_may_name_the_file() {
    let (_folder, named) = file("natsway.yaml", "nats: {name: file}");
    let path = named.file.unwrap();
    let sources = Sources {
        environment: environment(&[("NATSWAY_CONFIG", path.to_str().unwrap())]),
        ..Sources::default()
    };
    assert_eq!(sources.load().unwrap().nats.name, "file");
}

#[test]
fn a_file_that_is_missing_or_damaged_is_named() {
    for (name, text) in [
        ("natsway.yaml", "a: [1"),
        ("natsway.json", "{"),
        ("natsway.toml", "="),
        ("natsway.ini", ""),
    ] {
        let (_folder, sources) = file(name, text);
        let errors = sources.load().unwrap_err();
        assert!(
            errors.0.len() == 1 && errors.to_string().contains(name),
            "{errors}"
        );
    }
    let sources = Sources {
        file: Some("/nowhere/natsway.yaml".into()),
        ..Sources::default()
    };
    assert!(
        sources
            .load()
            .unwrap_err()
            .to_string()
            .contains("/nowhere/natsway.yaml")
    );
}

#[test]
fn a_key_given_twice_is_an_error() {
    let (_folder, sources) = file(
        "natsway.yaml",
        "shutdown: { grace: 1s }\nshutdown: { grace: 2s }",
    );
    assert!(sources.load().is_err());
}

#[test]
fn a_probe_finds_the_admin_address_in_a_broken_configuration() {
    let (_folder, mut sources) = file(
        "natsway.yaml",
        "listen: { admin: \"127.0.0.1:9\" }\nnonsense: 1",
    );
    assert_eq!(sources.admin().unwrap(), ListenAddr::tcp("127.0.0.1", 9));
    sources.environment = environment(&[("NATSWAY_LISTEN__ADMIN", "unix:/tmp/admin.sock")]);
    assert_eq!(
        sources.admin().unwrap(),
        ListenAddr::Unix("/tmp/admin.sock".into())
    );
    sources.file = Some(Path::new("/nowhere.yaml").to_owned());
    assert!(sources.admin().is_err());
}
