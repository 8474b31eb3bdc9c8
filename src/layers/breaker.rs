//! Stops trying for a while what keeps failing: a dead responder then costs its callers microseconds
//! instead of a timeout each, and a place under the concurrency limit none. Before the queue, therefore.
//!
//! What counts as failure is what says that the other side is away: no responders, no reply in time,
//! NATS disconnected. A service's own errors, the client's mistakes and what natsway shed itself say
//! nothing about it, and neither does a wait that ended early because the client asked for less time than
//! the route gives, or took most of it for its body: impatient clients would open it for all others.
//! *Closed* counts failures in a window; *open* sheds; after `open_for` it is
//! *half-open*: one request at a time is a probe, and its outcome alone decides.
//!
//! A circuit outlives a reload that leaves its settings as they are. One that is replaced goes on for the
//! requests that came in by it, but no longer shows: the gauge is that of the circuit in force.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::Layer;

use super::Handle;
use super::body::CameLate;
use super::deadline::Deadline;
use crate::config::Breaker;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::Gauge;

/// What an answer says about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    Away,
    Nothing,
}

fn verdict(response: &Response) -> Verdict {
    let Some(problem) = response.extensions().get::<Problem>() else {
        return Verdict::Alive;
    };
    match problem.code() {
        Code::NoResponders
        | Code::ReplyTimeout
        | Code::PublishOutcomeUnknown
        | Code::NatsDisconnected
        | Code::JetStreamUnavailable => Verdict::Away,
        Code::ServiceError | Code::BadReply => Verdict::Alive,
        _ => Verdict::Nothing,
    }
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
struct Passing<'a> {
    circuit: &'a Circuit,
    pass: Pass,
    verdict: Verdict,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.circuit.settle(&self.pass, self.verdict);
    }
}

/// The layer; without a circuit it is a branch. `timeout` is the route's own.
pub fn layer<N: Handle>(
    circuit: Option<Arc<Circuit>>,
    timeout: Duration,
) -> impl Layer<N, Service = WithBreaker<N>> {
    tower::layer::layer_fn(move |next| WithBreaker {
        next,
        timeout,
        circuit: circuit.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct WithBreaker<N> {
    next: N,
    timeout: Duration,
    circuit: Option<Arc<Circuit>>,
}

impl<N: Handle> Handle for WithBreaker<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        let Some(circuit) = &self.circuit else {
            return self.next.handle(request).await;
        };
        let pass = match circuit.enter() {
            Ok(pass) => pass,
            Err(problem) => return problem.into_response(),
        };
        let deadline = Deadline::of(&request);
        let mut passing = Passing {
            circuit,
            pass,
            verdict: Verdict::Nothing,
        };
        let response = self.next.handle(request).await;
        passing.verdict = match verdict(&response) {
            Verdict::Away if self.is_the_clients_haste(deadline, &response) => Verdict::Nothing,
            verdict => verdict,
        };
        response
    }
}

impl<N> WithBreaker<N> {
    /// Whether the time was over, and the other side had less of it than the route gives.
    fn is_the_clients_haste(&self, deadline: Deadline, response: &Response) -> bool {
        let is_late = || response.extensions().get::<CameLate>().is_some();
        Instant::now() >= deadline.at && (deadline.timeout < self.timeout || is_late())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Verb;
    use crate::layers::context::Context;
    use axum::body::Body;
    use tokio::time::advance;

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

    #[tokio::test(start_paused = true)]
    async fn only_a_wait_as_long_as_the_routes_own_counts() {
        let own = Duration::from_secs(5);
        for (asked, waited, late, open) in [
            (5, 5, false, true),
            (9, 9, false, true),
            (1, 1, false, false),
            (5, 5, true, false),
            // Said at once, so it is no question of time.
            (1, 0, true, true),
        ] {
            let verb = Verb::of_fn(move |_| {
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_secs(waited)).await;
                    let mut response = Problem::new(Code::NatsDisconnected).into_response();
                    if late {
                        response.extensions_mut().insert(CameLate);
                    }
                    response
                })
            });
            let settings = Breaker {
                failures: 1,
                ..Breaker::default()
            };
            let circuit = Arc::new(Circuit::new(settings, Gauge::default()));
            let breaker = layer(Some(Arc::clone(&circuit)), own).layer(verb);
            let mut request = Request::new(Body::empty());
            let deadline = Deadline::after(Duration::from_secs(asked));
            Context::of_mut(&mut request).deadline = Some(deadline);
            breaker.handle(request.into()).await;
            assert_eq!(circuit.enter().is_err(), open, "{asked} {waited} {late}");
        }
    }

    /// In a test's build; `make bench` tells what it is in a release.
    #[tokio::test]
    async fn an_open_circuit_sheds_in_microseconds() {
        let settings = Breaker {
            failures: 1,
            ..Breaker::default()
        };
        let circuit = Arc::new(Circuit::new(settings, Gauge::default()));
        fail(&circuit, 1);
        let never = Verb::of_fn(|_| Box::pin(std::future::pending()));
        let breaker = layer(Some(circuit), Duration::from_secs(5)).layer(never);
        let mut took = Vec::new();
        for _ in 0..10_000 {
            let request = Box::new(Request::new(Body::empty()));
            let start = std::time::Instant::now();
            let response = breaker.handle(request).await;
            took.push(start.elapsed());
            assert_eq!(response.status(), 503);
        }
        took.sort_unstable();
        let median = took[took.len() / 2];
        assert!(median < Duration::from_micros(100), "{median:?}");
    }

    #[test]
    fn only_what_says_that_the_other_side_is_away_counts() {
        for (code, expected) in [
            (Code::NoResponders, Verdict::Away),
            (Code::ReplyTimeout, Verdict::Away),
            (Code::NatsDisconnected, Verdict::Away),
            (Code::ServiceError, Verdict::Alive),
            (Code::Overloaded, Verdict::Nothing),
            (Code::RateLimited, Verdict::Nothing),
            (Code::InvalidSubject, Verdict::Nothing),
        ] {
            assert_eq!(verdict(&Problem::new(code).into_response()), expected);
        }
        assert_eq!(verdict(&Response::default()), Verdict::Alive);
    }
}
