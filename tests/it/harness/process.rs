//! A child process that is this test's own: its output is kept, it dies with its owner, and when
//! the test fails its last lines are shown.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::eventually::{SOON, eventually, eventually_some};

const LINES_SHOWN_ON_FAILURE: usize = 80;

/// Lines as they were printed.
#[derive(Clone, Default)]
pub(crate) struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    /// Pipes that are still open.
    open: Arc<AtomicUsize>,
}

impl Output {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").clone()
    }

    pub(crate) fn count(&self, needle: &str) -> usize {
        let lines = self.lines.lock().expect("no reader panics");
        lines.iter().filter(|line| line.contains(needle)).count()
    }

    /// Waits until the process has closed its pipes, so that nothing it said is missing.
    pub(crate) async fn finished(&self) {
        eventually(SOON, "the process closes its output", async || {
            self.open.load(Ordering::SeqCst) == 0
        })
        .await;
    }

    fn push(&self, line: String) {
        self.lines.lock().expect("no reader panics").push(line);
    }

    fn follow(&self, pipe: impl Read + Send + 'static) {
        let output = self.clone();
        output.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                output.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            output.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Every process that has an owner.
static RUNNING: Mutex<Vec<Weak<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Kills all of them, for an end of the suite at which no owner is dropped.
pub(crate) fn kill_all() {
    let running = RUNNING.lock().expect("no holder panics");
    for child in running.iter().filter_map(Weak::upgrade) {
        let _ = child.lock().expect("no holder panics").kill();
    }
}

/// The process; killed, by its own id and no other, when dropped.
pub(crate) struct Process {
    what: String,
    child: Arc<Mutex<Child>>,
    pid: i32,
    pub(crate) output: Output,
}

impl Process {
    /// Starts `command`; its output continues `output`, so a restarted process has one history.
    pub(crate) fn start(what: &str, mut command: Command, output: Output) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        output.follow(child.stdout.take().expect("stdout is piped"));
        output.follow(child.stderr.take().expect("stderr is piped"));
        let pid = child.id().try_into().expect("a pid fits");
        let child = Arc::new(Mutex::new(child));
        let mut running = RUNNING.lock().expect("no holder panics");
        running.retain(|other| other.strong_count() > 0);
        running.push(Arc::downgrade(&child));
        Self {
            what: what.to_owned(),
            child,
            pid,
            output,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The exit status, once it is there.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("no holder panics");
        child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal, unless the process is gone: its id may already be somebody else's.
    pub(crate) fn signal(&self, signal: i32) {
        let mut child = self.child.lock().expect("no holder panics");
        if child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
        {
            // SAFETY: kill takes two integers; the child has not been reaped, so the id is ours.
            #[allow(unsafe_code, reason = "std can send nothing but SIGKILL")]
            let sent = unsafe { libc::kill(self.pid, signal) };
            assert_eq!(sent, 0, "{}: signal {signal} could not be sent", self.what);
        }
    }

    /// Whether SIGSTOP has reached every thread: each stops at its next step, not at once.
    pub(crate) fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        let mut threads = threads.expect("Linux, and the process is ours").flatten();
        threads.all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which stands in parentheses and may hold any character.
            stat.rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Waits for the end.
    pub(crate) async fn wait_exit(&self, bound: Duration) -> ExitStatus {
        let what = format!("{} (pid {}) ends", self.what, self.pid);
        eventually_some(bound, &what, async || self.exited()).await
    }

    /// `kill -9`, and wait until it is gone.
    pub(crate) fn kill9(&self) {
        let mut child = self.child.lock().expect("no holder panics");
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let lines = self.output.lines();
            let tail = lines.len().saturating_sub(LINES_SHOWN_ON_FAILURE);
            eprintln!(
                "--- {} said (last {} of {} lines):\n{}\n---",
                self.what,
                lines.len() - tail,
                lines.len(),
                lines[tail..].join("\n")
            );
        }
    }
}

/// The ports of all who hold one.
static PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port outside the range that the kernel hands to outgoing connections, and that no other test gets
/// while this one holds it, so that a server can take it again after a restart. It may be taken all the
/// same: whoever binds tries the next.
pub(crate) struct Port(u16);

impl Port {
    pub(crate) fn some() -> Self {
        let mut ports = PORTS.lock().expect("no holder panics");
        loop {
            let number = rand::random_range(10_300..32_000);
            if ports.insert(number) {
                return Self(number);
            }
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        PORTS.lock().expect("no holder panics").remove(&self.0);
    }
}

/// The same for who takes it at once, or tries another.
pub(crate) fn some_port() -> u16 {
    Port::some().number()
}
