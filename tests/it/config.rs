//! The command line and the configuration, as a user meets them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde_json::Value;

use crate::harness::bridge::{Bridge, Builder};
use crate::harness::eventually::SOON;
use crate::harness::nats::Nats;

fn builder_of(args: &[&str]) -> Builder {
    args.iter()
        .fold(Bridge::builder(), |builder, arg| builder.arg(arg))
}

async fn run(args: &[&str], yaml: &str) -> (ExitStatus, String) {
    builder_of(args).yaml(yaml).run().await
}

/// What Kubernetes puts into every pod beside a Service called natsway.
const INJECTED: [(&str, &str); 7] = [
    ("NATSWAY_PORT", "tcp://10.96.0.7:4280"),
    ("NATSWAY_PORT_4280_TCP", "tcp://10.96.0.7:4280"),
    ("NATSWAY_PORT_4280_TCP_ADDR", "10.96.0.7"),
    ("NATSWAY_PORT_4280_TCP_PROTO", "tcp"),
    ("NATSWAY_SERVICE_HOST", "10.96.0.7"),
    ("NATSWAY_SERVICE_PORT", "4280"),
    ("NATSWAY_SERVICE_PORT_HTTP", "4280"),
];

#[tokio::test]
async fn check_says_that_all_is_well() {
    let (status, said) = run(&["check"], "shutdown: { grace: 5s }").await;
    assert_eq!(
        (status.code(), said.as_str()),
        (Some(0), "the configuration is good")
    );
}

#[tokio::test]
async fn check_names_both_routes_that_take_the_same_requests() {
    let yaml = "routes:\n\
        - { name: first, match: { path: /stock }, publish: { subject: stock } }\n\
        - { name: second, match: { path: /stock }, publish: { subject: other } }";
    let (status, said) = run(&["check"], yaml).await;
    assert_eq!(status.code(), Some(2), "{said}");
    for part in ["routes[1].match.path", "route `first`", "route `second`"] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
}

#[tokio::test]
async fn check_names_everything_that_is_wrong_and_where() {
    let yaml =
        "colour: blue\nshutdown: { grace: long }\nroutes:\n  - { name: a, match: { path: /v1/x } }";
    let (status, said) = run(&["check"], yaml).await;
    assert_eq!(status.code(), Some(2), "{said}");
    for line in [
        "natsway: colour: unknown key",
        "natsway: routes[0]: needs one of",
        "natsway: routes[0].match.path: ",
        "natsway: shutdown.grace: ",
    ] {
        assert!(said.contains(line), "{line} is missing:\n{said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[tokio::test]
async fn the_effective_configuration_has_flags_and_environment_in_it_and_no_secret() {
    let args = [
        "config",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--nats",
        "nats://u:hunter2@flag:4222",
    ];
    let builder = builder_of(&args).yaml("nats: { connections: 2, name: file }");
    let (status, said) = builder.env("NATSWAY_NATS__NAME", "environment").run().await;
    assert_eq!(status.code(), Some(0), "{said}");
    let config: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(config["listen"]["data"][0], "127.0.0.1:0");
    assert_eq!(config["nats"]["servers"][0], "nats://flag:4222");
    assert_eq!(config["nats"]["name"], "environment");
    assert_eq!(config["nats"]["connections"], 2);
    assert_eq!(config["nats"]["auth"]["password"], "[redacted]");
    assert!(!said.contains("hunter2"));
}

#[tokio::test]
async fn what_config_prints_is_a_configuration() {
    let (_, printed) = run(&["config"], "shutdown: { grace: 7s }").await;
    let (status, again) = run(&["config"], &printed).await;
    assert_eq!(status.code(), Some(0), "{again}");
    assert!(
        printed == again && printed.contains("  grace: 7s"),
        "{printed}\n{again}"
    );
}

#[tokio::test]
async fn the_schema_and_the_reference_are_printed() {
    let (status, schema) = run(&["config", "--schema"], "").await;
    let schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    assert_eq!(status.code(), Some(0));
    assert_eq!(schema["properties"]["routes"]["type"], "array");
    let (_, reference) = run(&["config", "--docs"], "").await;
    assert!(reference.starts_with("# Configuration"), "{reference}");
}

#[tokio::test]
async fn what_kubernetes_injects_changes_nothing() {
    let plain = run(&["config"], "").await;
    let beside_a_service = INJECTED
        .iter()
        .fold(builder_of(&["config"]), |builder, (name, value)| {
            builder.env(name, value)
        });
    assert_eq!(beside_a_service.run().await, plain);
    assert_eq!(plain.0.code(), Some(0));
}

#[tokio::test]
async fn wrong_flags_and_files_end_with_2() {
    for args in [
        &["--nonsense"][..],
        &["nonsense"],
        &["check", "--listen", "nowhere"],
        &["check", "--nats", "ftp://x"],
    ] {
        let (status, said) = run(args, "").await;
        assert_eq!(status.code(), Some(2), "{args:?}: {said}");
    }
    let missing = Bridge::builder()
        .env("NATSWAY_NATS__AUTH__CREDS_FILE", "/nowhere/natsway.creds")
        .arg("check")
        .run()
        .await;
    assert_eq!(missing.0.code(), Some(2));
    assert!(
        missing
            .1
            .contains("nats.auth.creds_file: /nowhere/natsway.creds cannot be read"),
        "{}",
        missing.1
    );
}

#[tokio::test]
async fn help_and_version_end_with_0() {
    for (arg, holds) in [
        ("--help", "Usage: natsway"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let (status, said) = run(&[arg], "").await;
        assert!(status.code() == Some(0) && said.contains(holds), "{said}");
    }
}

#[tokio::test]
async fn health_says_no_where_nobody_answers() {
    let unused =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = unused.expect("a free port").to_string();
    let builder = builder_of(&["health"]).env("NATSWAY_LISTEN__ADMIN", &address);
    let (status, said) = builder.run().await;
    assert!(
        status.code() == Some(1) && said.contains(&address),
        "{said}"
    );
}

#[tokio::test]
async fn it_serves_beside_a_service_of_its_own_name_and_health_asks_it() {
    let nats = Nats::start().await;
    let builder = INJECTED
        .iter()
        .fold(Bridge::builder(), |builder, (name, value)| {
            builder.env(name, value)
        });
    let bridge = builder.nats(&nats).start().await;
    for args in [&["health"][..], &["health", "--ready"]] {
        let (status, said) = builder_of(args)
            .env("NATSWAY_LISTEN__ADMIN", bridge.admin())
            .run()
            .await;
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
    let url = format!("http://{}/nonsense", bridge.admin());
    let (status, said) = run(&["health", "--url", &url], "").await;
    assert!(
        status.code() == Some(1) && said.contains("answers 404"),
        "{said}"
    );
    bridge.sigterm();
    assert_eq!(bridge.wait_exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn health_says_no_to_a_natsway_that_hangs() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    bridge.signal(libc::SIGSTOP);
    let (status, said) = builder_of(&["health"])
        .env("NATSWAY_LISTEN__ADMIN", bridge.admin())
        .run()
        .await;
    bridge.signal(libc::SIGCONT);
    assert_eq!(status.code(), Some(1), "{said}");
}

#[tokio::test]
async fn a_health_probe_survives_a_damaged_configuration() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let yaml = format!("listen: {{ admin: \"{}\" }}\nnonsense: 1", bridge.admin());
    let (status, said) = run(&["health"], &yaml).await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn an_address_that_is_taken_ends_with_1_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (status, said) = run(&["--listen", &address], "").await;
    assert!(
        status.code() == Some(1) && said.contains(&address),
        "{said}"
    );
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_2_before_anything_binds() {
    let (status, said) = run(&["serve"], "http: { connections_max: 10 }").await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(
        said.contains("http.connections_max: ") && !said.contains("listening"),
        "{said}"
    );
}

#[tokio::test]
async fn the_openapi_document_has_the_declared_routes() {
    let yaml = "routes: [{ name: stock, match: { path: \"/stock/{sku}\" }, request: { subject: \"stock.{sku}\" } }]";
    let (status, said) = run(&["openapi"], yaml).await;
    assert_eq!(status.code(), Some(0), "{said}");
    let document: Value = serde_json::from_str(&said).expect("it is JSON and nothing else");
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3."))
    );
    assert!(
        document["paths"]["/v1/openapi.json"].is_object(),
        "{document:#}"
    );
}

/// The configuration files the charts make are good ones.
#[tokio::test]
async fn what_the_charts_configure_is_accepted() {
    let mut checked = 0;
    for file in golden_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("charts")) {
        let manifest = fs::read_to_string(&file).expect("it was listed");
        for yaml in embedded(&manifest) {
            let (status, said) = run(&["check"], &yaml).await;
            assert_eq!(
                status.code(),
                Some(0),
                "{}:\n{said}\n{yaml}",
                file.display()
            );
            checked += 1;
        }
    }
    assert!(
        checked > 0,
        "no chart has a configuration in its golden files"
    );
}

fn golden_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<PathBuf> = Vec::new();
    for path in entries.map(|entry| entry.expect("it can be listed").path()) {
        if path.is_dir() {
            files.extend(golden_files(&path));
        } else if path
            .parent()
            .is_some_and(|folder| folder.ends_with("golden"))
        {
            files.push(path);
        }
    }
    files
}

/// The block texts under `natsway.yaml: |`, without their indentation.
fn embedded(manifest: &str) -> Vec<String> {
    let lines: Vec<&str> = manifest.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let starts = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.trim() == "natsway.yaml: |");
    starts
        .map(|(start, head)| {
            let inside = |line: &&&str| line.trim().is_empty() || depth(line) > depth(head);
            let block = lines[start + 1..].iter().take_while(inside);
            block.fold(String::new(), |text, line| {
                text + line.get(depth(head) + 2..).unwrap_or("") + "\n"
            })
        })
        .collect()
}
