//! Stops trying for a while what keeps failing: a dead responder then costs its callers microseconds
//! instead of a timeout each, and a place under the concurrency limit none. Before the queue, therefore.
//!
//! What counts as failure is what says that the other side is away: no responders, no reply in time,
//! NATS disconnected. A service's own errors, the client's mistakes and what natsway shed itself say
//! nothing about it, and neither does a wait that ended early because the client asked for less time than
//! the route gives, or took most of it for its body: impatient clients would open it for all others.
//! What follows from it, the [`Circuit`] knows.

mod circuit;

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tower::Layer;

use super::body::CameLate;
use super::deadline::Deadline;
use super::{Handle, Request};
use crate::problem::{Code, Problem};
use circuit::Verdict;

pub use circuit::Circuit;

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
        let mut passing = match circuit.pass() {
            Ok(passing) => passing,
            Err(problem) => return problem.into_response(),
        };
        let deadline = request.deadline();
        let response = self.next.handle(request).await;
        passing.says(match verdict(&response) {
            Verdict::Away if self.is_the_clients_haste(deadline, &response) => Verdict::Nothing,
            verdict => verdict,
        });
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
    use crate::config::Breaker;
    use crate::layers::Verb;
    use crate::telemetry::metrics::Gauge;

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
            let mut request = Request::default();
            let deadline = Deadline::after(Duration::from_secs(asked));
            request.context.deadline = Some(deadline);
            breaker.handle(request.into()).await;
            assert_eq!(circuit.pass().is_err(), open, "{asked} {waited} {late}");
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
        circuit.pass().unwrap().says(Verdict::Away);
        let never = Verb::of_fn(|_| Box::pin(std::future::pending()));
        let breaker = layer(Some(circuit), Duration::from_secs(5)).layer(never);
        let mut took = Vec::new();
        for _ in 0..10_000 {
            let request = Box::new(Request::default());
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
