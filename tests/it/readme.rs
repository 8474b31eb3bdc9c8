//! The tour of the README is true: every command runs, every answer is the one that is printed.

pub(crate) mod transcript;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::harness::process::{Output, Process};
use crate::harness::{Bridge, Nats, Python, SOON, eventually};
use transcript::{Block, Step, blocks, matches};

/// Comes before every command: no progress meter, and a mark after each answer.
const PRELUDE: &str = "curl() { command curl --silent --show-error \"$@\"; }\n";
const MARK: &str = "\u{1}\n";

/// The text of a file of the checkout.
fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("the file is there")
}

pub(crate) fn readme() -> String {
    text("README.md")
}

/// What `make run` runs with.
fn development() -> String {
    text("deploy/dev/natsway.yaml")
}

/// The tour's addresses, and those of this test.
struct Tour {
    nats: Nats,
    bridge: Bridge,
    background: Vec<(Step, Process)>,
    responder: Option<Python>,
}

impl Tour {
    async fn start() -> Self {
        let nats = Nats::start().await;
        let bridge = Bridge::start(&nats, &development()).await;
        Self {
            nats,
            bridge,
            background: Vec::new(),
            responder: None,
        }
    }

    fn bash(&self, script: &str) -> Command {
        let script = script
            .replace("127.0.0.1:4280", self.bridge.address())
            .replace("127.0.0.1:4281", self.bridge.admin());
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{PRELUDE}{script}"));
        command
    }

    async fn run(&mut self, block: &Block) {
        match block.language.as_str() {
            "console" if block.steps.iter().any(|step| step.background) => {
                self.run_in_background(block).await;
            }
            "console" => self.run_in_order(block).await,
            "python" => {
                assert!(self.responder.is_none(), "the tour has one responder");
                let ready = "await nc.flush(); print('ready', flush=True); await asyncio.Event()";
                let script = block.text.replace("await asyncio.Event()", ready);
                self.responder = Some(Python::run(&self.nats, &script).await);
            }
            "yaml" => assert!(development().contains(&block.text), "{}", block.text),
            _ => {}
        }
    }

    /// A subscription: its first line says that NATS has it.
    async fn run_in_background(&mut self, block: &Block) {
        let [step] = block.steps.as_slice() else {
            panic!(
                "a command in the background has a block of its own: {}",
                block.text
            );
        };
        let output = Output::default();
        let process = Process::start("curl", self.bash(&step.command), output.clone());
        let first = step.expected.lines().next().unwrap_or_default().to_owned();
        eventually(
            SOON,
            &format!("{} prints {first:?}", step.command),
            async || {
                output
                    .lines()
                    .first()
                    .is_some_and(|line| matches(&first, line))
            },
        )
        .await;
        self.background.push((step.clone(), process));
    }

    async fn run_in_order(&self, block: &Block) {
        let script: String = block
            .steps
            .iter()
            .map(|step| format!("{}\nprintf '{}'\n", step.command, MARK.escape_default()))
            .map(|line| line.replace("\\u{1}", "\\001"))
            .collect();
        let output = tokio::process::Command::from(self.bash(&script)).output();
        let output = crate::harness::within(SOON, "the block ends", output).await;
        let output = output.expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let answers: Vec<&str> = said.split(MARK).collect();
        for (step, answer) in block.steps.iter().zip(&answers) {
            assert!(
                matches(&step.expected, answer),
                "$ {}\nwas to answer:\n{}\nbut answered:\n{answer}\n{}",
                step.command,
                step.expected,
                String::from_utf8_lossy(&output.stderr),
            );
        }
        assert_eq!(answers.len(), block.steps.len() + 1, "{said}");
    }

    async fn finish(self) {
        for (step, process) in &self.background {
            let output = process.output.clone();
            eventually(SOON, &format!("{} prints all", step.command), async || {
                matches(&step.expected, &output.lines().join("\n"))
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_is_true() {
    let mut tour = Tour::start().await;
    let blocks = blocks(&readme());
    let commands: usize = blocks.iter().map(|block| block.steps.len()).sum();
    assert!(commands >= 10, "the tour has gone: {commands} commands");
    for block in Arc::new(blocks).iter() {
        tour.run(block).await;
    }
    tour.finish().await;
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = readme();
    let linked = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let folders = ["charts/", "deploy/", "docs/"];
    let named = readme
        .split('`')
        .filter(|word| folders.iter().any(|f| word.starts_with(f)));
    for path in linked.chain(named).filter(|path| !path.contains("://")) {
        assert!(
            root.join(path).exists(),
            "the README names {path}, which does not exist"
        );
    }
}
