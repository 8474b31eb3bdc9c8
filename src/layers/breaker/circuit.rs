//! The breaker's state machine.
//!
//! *Closed* counts failures in a window; *open* sheds; after `open_for` it is *half-open*: one request
//! at a time is a probe, and its outcome alone decides.
//!
//! A circuit outlives a reload that leaves its settings as they are. One that is replaced goes on for the
//! requests that came in by it, but no longer shows: the gauge is that of the circuit in force.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Breaker;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::Gauge;

/// What an answer says about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Alive,
    Away,
    Nothing,
}

/// The breaker of one route, without what it stands before.
#[derive(Debug)]
pub struct Circuit {
    settings: Breaker,
    gauge: Gauge,
    /// Read without the lock while everything is well.
    tripped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The newest failures, at most as many as open the circuit.
    failures: VecDeque<Instant>,
    open_until: Option<Instant>,
    probing: bool,
    /// Whether the gauge is this circuit's.
    shows: bool,
}

/// How a request came through.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    Ordinary,
    Probe,
}

impl Circuit {
    /// A closed one. It shows in the gauge when it is put in force.
    #[must_use]
    pub fn new(settings: Breaker, gauge: Gauge) -> Self {
        Self {
            settings,
            gauge,
            tripped: AtomicBool::new(false),
            state: Mutex::new(State {
                failures: VecDeque::new(),
                open_until: None,
                probing: false,
                shows: false,
            }),
        }
    }

    /// The gauge tells of this one from now on.
    pub fn show(&self) {
        let mut state = self.state.lock();
        state.shows = true;
        self.gauge.set(state.open_until.is_some().into());
    }

    /// The gauge tells of another one, or of none, from now on.
    pub fn hide(&self) {
        let mut state = self.state.lock();
        state.shows = false;
        self.gauge.set(0);
    }

    /// Lets a request through, or sheds it.
    pub(super) fn pass(&self) -> Result<Passing<'_>, Problem> {
        Ok(Passing {
            pass: self.enter()?,
            circuit: self,
            verdict: Verdict::Nothing,
        })
    }

    fn enter(&self) -> Result<Pass, Problem> {
        if !self.tripped.load(Ordering::Acquire) {
            return Ok(Pass::Ordinary);
        }
        let mut state = self.state.lock();
        let Some(until) = state.open_until else {
            return Ok(Pass::Ordinary);
        };
        let now = Instant::now();
        if now >= until && !state.probing {
            state.probing = true;
            return Ok(Pass::Probe);
        }
        Err(Problem::new(Code::CircuitOpen).retry_after(until.saturating_duration_since(now)))
    }

    fn settle(&self, pass: &Pass, verdict: Verdict) {
        match (pass, verdict) {
            (Pass::Ordinary, Verdict::Away) => self.failed(),
            (Pass::Ordinary, _) => {}
            (Pass::Probe, Verdict::Alive) => self.close(),
            (Pass::Probe, Verdict::Away) => self.open(&mut self.state.lock()),
            // It never got far enough to say anything: the next request is the probe.
            (Pass::Probe, Verdict::Nothing) => self.state.lock().probing = false,
        }
    }

    fn failed(&self) {
        let mut state = self.state.lock();
        // Whoever was under way when the circuit opened has been counted by that.
        if state.open_until.is_some() {
            return;
        }
        let now = Instant::now();
        let needed = usize::try_from(self.settings.failures.max(1)).unwrap_or(usize::MAX);
        state.failures.push_back(now);
        while state.failures.len() > needed {
            state.failures.pop_front();
        }
        let oldest = state.failures.front().copied().unwrap_or(now);
        if state.failures.len() == needed && now - oldest <= self.settings.window {
            self.open(&mut state);
        }
    }

    fn open(&self, state: &mut State) {
        state.failures.clear();
        state.probing = false;
        state.open_until = Some(Instant::now() + self.settings.open_for);
        self.tripped.store(true, Ordering::Release);
        if state.shows {
            self.gauge.set(1);
        }
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.failures.clear();
        state.probing = false;
        state.open_until = None;
        self.tripped.store(false, Ordering::Release);
        if state.shows {
            self.gauge.set(0);
        }
    }
}

/// A request that came through; one that is dropped without an answer has said nothing.
pub(super) struct Passing<'a> {
    circuit: &'a Circuit,
    pass: Pass,
    verdict: Verdict,
}

impl Passing<'_> {
    /// What its answer says.
    pub(super) const fn says(&mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.circuit.settle(&self.pass, self.verdict);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn circuit() -> Circuit {
        let settings = Breaker {
            failures: 3,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        };
        let circuit = Circuit::new(settings, Gauge::default());
        circuit.show();
        circuit
    }

    fn fail(circuit: &Circuit, times: usize) {
        for _ in 0..times {
            circuit.settle(&Pass::Ordinary, Verdict::Away);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_on_failures_in_the_window_only() {
        let circuit = circuit();
        fail(&circuit, 2);
        advance(Duration::from_secs(11)).await;
        fail(&circuit, 2);
        circuit.settle(&Pass::Ordinary, Verdict::Alive);
        circuit.settle(&Pass::Ordinary, Verdict::Nothing);
        assert_eq!(circuit.enter().unwrap(), Pass::Ordinary);
        fail(&circuit, 1);
        let problem = circuit.enter().unwrap_err();
        assert_eq!(problem.code(), Code::CircuitOpen);
        assert_eq!(problem.retry_after_seconds(), Some(5));
        assert_eq!(circuit.gauge.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_lets_one_probe_through_and_its_outcome_decides() {
        let circuit = circuit();
        fail(&circuit, 3);
        advance(Duration::from_secs(5)).await;
        assert_eq!(circuit.enter().unwrap(), Pass::Probe);
        assert!(circuit.enter().is_err());
        circuit.settle(&Pass::Probe, Verdict::Away);
        assert!(circuit.enter().is_err());
        advance(Duration::from_secs(5)).await;
        assert_eq!(circuit.enter().unwrap(), Pass::Probe);
        // The client of this probe went away.
        circuit.settle(&Pass::Probe, Verdict::Nothing);
        assert_eq!(circuit.enter().unwrap(), Pass::Probe);
        circuit.settle(&Pass::Probe, Verdict::Alive);
        assert_eq!(circuit.enter().unwrap(), Pass::Ordinary);
        assert_eq!(circuit.gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn stragglers_do_not_move_an_open_circuit() {
        let circuit = circuit();
        fail(&circuit, 3);
        fail(&circuit, 3);
        circuit.settle(&Pass::Ordinary, Verdict::Alive);
        assert!(circuit.enter().is_err());
        advance(Duration::from_secs(5)).await;
        assert_eq!(circuit.enter().unwrap(), Pass::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn the_gauge_is_that_of_the_circuit_in_force() {
        let settings = Breaker {
            failures: 1,
            ..Breaker::default()
        };
        let gauge = Gauge::default();
        let [old, new] = [(); 2].map(|()| Circuit::new(settings, gauge.clone()));
        old.show();
        fail(&old, 1);
        assert_eq!(gauge.get(), 1);
        old.hide();
        new.show();
        assert_eq!(gauge.get(), 0);
        old.close();
        fail(&new, 1);
        old.close();
        assert_eq!(gauge.get(), 1);
        new.hide();
        fail(&old, 1);
        assert_eq!(gauge.get(), 0);
        old.show();
        assert_eq!(gauge.get(), 1);
    }
}
