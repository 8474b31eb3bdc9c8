//! Ends the suite, by name of the test, when a test hangs: a broken wait must not look like a slow
//! machine.

use std::collections::HashMap;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use super::{process, soak};

static RUNNING: Mutex<Option<HashMap<u64, (String, Instant)>>> = Mutex::new(None);

/// A test that is being watched, as long as this lives.
pub(crate) struct Watched(u64);

impl Watched {
    /// Watches the test that calls, which libtest has named its thread after.
    pub(crate) fn this_test() -> Self {
        static START: Once = Once::new();
        START.call_once(|| {
            std::thread::spawn(watch);
        });
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test").to_owned();
        let id = rand::random();
        with_running(|running| running.insert(id, (name, Instant::now())));
        Self(id)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        with_running(|running| running.remove(&self.0));
    }
}

fn with_running<T>(change: impl FnOnce(&mut HashMap<u64, (String, Instant)>) -> T) -> T {
    let mut running = RUNNING.lock().expect("no holder panics");
    change(running.get_or_insert_default())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a thread of its own, outside every runtime"
)]
fn watch() {
    let limit = soak(Duration::from_secs(600), Duration::from_secs(2 * 60 * 60));
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let hung = with_running(|running| {
            let mut tests = running.values();
            tests.find(|(_, since)| since.elapsed() > limit).cloned()
        });
        if let Some((name, _)) = hung {
            eprintln!("{name} has not ended within {limit:?}: it hangs, and so the suite ends");
            process::kill_all();
            std::process::exit(101);
        }
    }
}
