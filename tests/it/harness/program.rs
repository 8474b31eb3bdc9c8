//! Programs in other languages that know HTTP and nothing of NATS: a user's own worker.

use std::process::Command;

use super::process::{Output, Process};
use super::python;

/// A running program; killed when dropped. Its output goes on where an earlier one's ended.
pub(crate) struct Program {
    process: Process,
}

impl Program {
    /// A Python script with `requests`.
    pub(crate) fn python(script: &str, args: &[String], output: Output) -> Self {
        let mut command = Command::new("python3");
        command
            .env("PYTHONPATH", python::packages())
            .args(["-c", script])
            .args(args);
        Self::start("python3", command, output)
    }

    /// A JavaScript module for Node, which has `fetch`.
    pub(crate) fn node(script: &str, args: &[String], output: Output) -> Self {
        let mut command = Command::new("node");
        command
            .args(["--input-type=module", "-e", script, "--"])
            .args(args);
        Self::start("node", command, output)
    }

    fn start(what: &str, command: Command, output: Output) -> Self {
        Self {
            process: Process::start(what, command, output),
        }
    }

    /// Fails, with its output, if it has ended by itself.
    pub(crate) fn assert_running(&self) {
        let exited = self.process.exited();
        assert!(exited.is_none(), "a program ended by itself: {exited:?}");
    }

    /// `kill -9`.
    pub(crate) fn kill9(&self) {
        self.process.kill9();
    }
}
