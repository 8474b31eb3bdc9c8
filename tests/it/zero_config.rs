//! `natsway` and nothing else, on a machine of its own with a `nats-server` and nothing else.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::nats::binary;
use crate::harness::process::{Output, Process};
use crate::harness::{SOON, eventually_some};

const MACHINE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/zero_config/machine.py"
);

/// How this user may make a network namespace: root by itself, others in a user namespace.
fn unshare() -> Command {
    for how in [
        &["--net", "--mount"][..],
        &["--user", "--map-root-user", "--net", "--mount"],
    ] {
        let tried = Command::new("unshare").args(how).arg("true").output();
        if tried.is_ok_and(|tried| tried.status.success()) {
            let mut command = Command::new("unshare");
            command.args(how);
            return command;
        }
    }
    panic!(
        "this test needs namespaces of its own: run it as root, or where `unshare --user --map-root-user --net --mount` is allowed"
    );
}

/// What happened on the machine.
async fn on(machine: &Value) -> Value {
    let mut command = unshare();
    command
        .args(["python3", MACHINE, &machine.to_string()])
        .env("NATS_SERVER_BIN", binary::path())
        .env("NATSWAY_BIN", env!("CARGO_BIN_EXE_natsway"));
    let process = Process::start("the machine", command, Output::default());
    let ended = process.wait_exit(SOON * 3).await;
    process.output.finished().await;
    assert!(ended.success(), "the machine does not work: {ended}");
    eventually_some(SOON, "the machine reports", async || {
        let lines = process.output.lines();
        serde_json::from_str(lines.last()?).ok()
    })
    .await
}

/// The last thing that natsway said.
fn sentence(report: &Value) -> String {
    let said = report["said"].as_str().expect("text").trim_end();
    said.lines().last().unwrap_or_default().to_owned()
}

/// What Kubernetes puts into every pod beside a Service called natsway, without a port of its own.
fn beside_a_service() -> Value {
    json!({
        "NATSWAY_PORT": "tcp://10.96.0.7:80",
        "NATSWAY_PORT_80_TCP": "tcp://10.96.0.7:80",
        "NATSWAY_PORT_80_TCP_ADDR": "10.96.0.7",
        "NATSWAY_PORT_80_TCP_PORT": "80",
        "NATSWAY_PORT_80_TCP_PROTO": "tcp",
        "NATSWAY_SERVICE_HOST": "10.96.0.7",
        "NATSWAY_SERVICE_PORT": "80",
    })
}

#[tokio::test]
async fn it_serves_with_and_without_ipv6() {
    for (ipv6, over_ipv6) in [
        ("there", json!(204)),
        ("disabled", json!(null)),
        ("absent", json!(null)),
    ] {
        let report = on(&json!({"ipv6": ipv6, "taken": [], "env": {}})).await;
        let answers = json!({"ready": 200, "IPv4": 204, "localhost": 204, "IPv6": over_ipv6});
        assert_eq!(report["answers"], answers, "IPv6 {ipv6}: {report}");
        assert_eq!(report["code"], 0, "{report}");
        let said = report["said"].as_str().expect("text");
        let told = said.contains("this machine has no IPv6");
        assert_eq!(told, over_ipv6.is_null(), "IPv6 {ipv6}: {said}");
        assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    }
}

#[tokio::test]
async fn a_name_may_stand_for_an_address_that_is_not_there() {
    for ipv6 in ["disabled", "absent"] {
        let env = json!({"NATSWAY_LISTEN__DATA": "localhost:4280"});
        let report = on(&json!({"ipv6": ipv6, "taken": [], "env": env})).await;
        assert_eq!(report["answers"]["localhost"], 204, "{report}");
        let env = json!({"NATSWAY_LISTEN__DATA": "[::1]:4280"});
        let report = on(&json!({"ipv6": ipv6, "taken": [], "env": env})).await;
        assert_eq!(report["code"], 1, "{report}");
        let said = sentence(&report);
        assert!(
            said.starts_with("natsway: cannot listen on [::1]:4280: "),
            "{said}"
        );
    }
}

#[tokio::test]
async fn it_serves_beside_a_service_of_its_own_name() {
    let env = beside_a_service();
    let report = on(&json!({"ipv6": "there", "taken": [], "env": env})).await;
    assert_eq!(report["answers"]["IPv4"], 204, "{report}");
    assert_eq!(report["code"], 0, "{report}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_sentence() {
    for taken in ["127.0.0.1:4280", "[::1]:4280", "127.0.0.1:4281"] {
        let report = on(&json!({"ipv6": "there", "taken": [taken], "env": {}})).await;
        assert_eq!(report["code"], 1, "{report}");
        assert_eq!(report["answers"], json!({}), "{report}");
        let wanted = format!("natsway: cannot listen on {taken}: another process does; ");
        let said = sentence(&report);
        assert!(said.starts_with(&wanted), "{said}");
    }
}
