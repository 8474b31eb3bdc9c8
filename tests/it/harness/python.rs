//! NATS programs in another language: Python with nats-py, as a user of natsway would have.

use std::path::PathBuf;
use std::process::Command;

use super::nats::Nats;
use super::process::{Output, Process};
use super::{SOON, eventually};

const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/python");

/// Comes before every script: a connection in `nc`, and `ready()` to say that it may begin.
const PRELUDE: &str = "
import asyncio, sys
import nats
async def main():
    nc = await nats.connect(sys.argv[1])
    async def ready():
        await nc.flush()
        print('ready', flush=True)
";

/// A running script; killed when dropped.
pub(crate) struct Python {
    process: Process,
}

impl Python {
    /// Runs the body of an async function and waits until it has called `await ready()`.
    pub(crate) async fn start(nats: &Nats, body: &str) -> Self {
        let indented: Vec<String> = body.lines().map(|line| format!("    {line}")).collect();
        let script = format!("{PRELUDE}{}\nasyncio.run(main())\n", indented.join("\n"));
        Self::run(nats, &script).await
    }

    /// Runs a whole program, with the URL of NATS as its argument, and waits for its line `ready`.
    pub(crate) async fn run(nats: &Nats, script: &str) -> Self {
        let mut command = Command::new("python3");
        command
            .env("PYTHONPATH", packages())
            .args(["-c", script, &nats.url()]);
        let python = Self {
            process: Process::start("python3", command, Output::default()),
        };
        eventually(SOON, "the Python program is ready", async || {
            let exited = python.process.exited();
            assert!(exited.is_none(), "the Python program ended: {exited:?}");
            python.said("ready")
        })
        .await;
        python
    }

    /// `kill -9`, and wait until it is gone.
    pub(crate) fn kill9(&self) {
        self.process.kill9();
    }

    /// Whether it has printed this line.
    pub(crate) fn said(&self, line: &str) -> bool {
        self.process.output.lines().iter().any(|said| said == line)
    }
}

/// The folder with the packages of the tests.
pub(super) fn packages() -> PathBuf {
    let named = std::env::var_os("NATSWAY_TEST_PYTHONPATH").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from(INSTALLED));
    assert!(
        folder.join("nats").is_dir() && folder.join("requests").is_dir(),
        "nats-py or requests is missing: run `make test` or `tools/python-packages`, which install it"
    );
    folder
}
