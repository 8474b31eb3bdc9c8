//! `make run`: what a newcomer types first.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::process::{Output, Process, some_port};
use crate::harness::{Bridge, Nats, SOON, eventually, eventually_some};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn tool(name: &str) -> Command {
    let mut command = Command::new(Path::new(ROOT).join("tools").join(name));
    command.env("NATSWAY_BIN", env!("CARGO_BIN_EXE_natsway"));
    command
}

/// The same command as a terminal would start it. Where the tests run in the background, a shell has
/// told them to ignore SIGINT, and a script that inherits this cannot trap it.
fn at_a_terminal(command: &Command) -> Command {
    const START: &str = "import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut wrapped = Command::new("python3");
    wrapped.args(["-c", START]).arg(command.get_program());
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap_or_default());
    }
    wrapped
}

/// The commands that it offers, as they are printed.
async fn offered(run: &Process) -> Vec<String> {
    eventually_some(SOON, "make run offers commands", async || {
        let exited = run.exited();
        assert!(exited.is_none(), "make run has ended: {exited:?}");
        let lines = run.output.lines();
        lines
            .iter()
            .any(|line| line.starts_with("Ctrl-C"))
            .then(|| {
                let commands = lines.iter().filter_map(|line| line.strip_prefix("  "));
                commands
                    .filter(|line| line.starts_with("curl "))
                    .map(str::to_owned)
                    .collect()
            })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_offers_commands_that_work_and_ctrl_c_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut command = at_a_terminal(&tool("run"));
    command
        .env("TMPDIR", temporary.path())
        .env("DATA", format!("127.0.0.1:{}", some_port()))
        .env("ADMIN", format!("127.0.0.1:{}", some_port()));
    let run = Process::start("tools/run", command, Output::default());
    let commands = offered(&run).await;
    let [subscribe, publish, request] = commands.as_slice() else {
        panic!("three commands were to be offered: {commands:?}");
    };

    let bash = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", script]);
        Process::start(script, command, Output::default())
    };
    let subscriber = bash(&format!("exec {subscribe}"));
    eventually(SOON, "the subscription begins", async || {
        subscriber.output.count("id:") > 0
    })
    .await;
    let published = bash(publish);
    // A process has ended a moment before all that it said was read.
    eventually(SOON, "the message is published", async || {
        published.output.count("204 No Content") == 1
    })
    .await;
    eventually(SOON, "the message arrives", async || {
        subscriber.output.count("\"data\":\"hello\"") == 1
    })
    .await;
    let requested = bash(request);
    eventually(SOON, "the request is answered", async || {
        requested.output.count("no-responders") == 1
    })
    .await;

    run.signal(libc::SIGINT);
    assert!(run.wait_exit(SOON).await.success());
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .expect("it is there")
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    eventually(SOON, "the subscription ends with natsway", async || {
        subscriber.exited().is_some()
    })
    .await;
}

/// The command lines of processes that work in `folder`.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("a path of letters");
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_one_sentence_and_leaves_nothing_behind() {
    // As a second `make run` would find it: everything is answered, and by somebody else.
    let nats = Nats::start().await;
    let first = Bridge::start(&nats, "").await;
    let free = || format!("127.0.0.1:{}", some_port());
    for (data, admin, taken) in [
        (first.address().to_owned(), free(), first.address()),
        (free(), first.admin().to_owned(), first.admin()),
        (
            first.address().to_owned(),
            first.admin().to_owned(),
            first.address(),
        ),
    ] {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut command = at_a_terminal(&tool("run"));
        command
            .env("TMPDIR", temporary.path())
            .env("DATA", data)
            .env("ADMIN", admin);
        let run = Process::start("tools/run", command, Output::default());
        assert_eq!(run.wait_exit(SOON).await.code(), Some(1));
        run.output.finished().await;
        let lines = run.output.lines();
        let wanted = format!("natsway: cannot listen on {taken}: another process does; ");
        let last = lines.last().expect("a sentence");
        assert!(last.starts_with(&wanted), "{lines:?}");
        assert_eq!(run.output.count("curl"), 0, "nothing is offered: {lines:?}");
        assert_eq!(processes_in(temporary.path()), [""; 0]);
        let left = std::fs::read_dir(temporary.path()).expect("it is there");
        assert_eq!(left.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_prerequisite_is_one_sentence() {
    // A PATH with nothing but what the scripts themselves stand on.
    let folder = tempfile::tempdir().expect("a temporary directory");
    for name in ["bash", "env", "dirname", "cat", "cmp"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))
            .map(|place| place.join(name))
            .find(|file| {
                let metadata = std::fs::metadata(file);
                metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
            });
        let found = found.unwrap_or_else(|| panic!("{name} is on the PATH"));
        std::os::unix::fs::symlink(found, folder.path().join(name)).expect("a link");
    }
    for (name, missing) in [("test", "cargo"), ("run", "curl"), ("test-browser", "node")] {
        let mut command = tool(name);
        command.env("PATH", folder.path());
        let process = Process::start(name, command, Output::default());
        let status = process.wait_exit(SOON).await;
        process.output.finished().await;
        let lines = process.output.lines();
        assert!(!status.success(), "{name} without {missing}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains(&format!("{missing} is missing")),
            "{lines:?}"
        );
    }
}
