//! The stacks: every layer, listed once, outermost first, each with the reason for its place.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::{HeaderValue, Method};
use tower::ServiceBuilder;

use super::route::{Kind, Route};
use super::standing::{Kept, Standing};
use crate::config::{AccessLog, Concurrency, Policy};
use crate::layers::admission::{Places, StreamSlots};
use crate::layers::body::{Intake, MaxPayload, Rules};
use crate::layers::breaker::Circuit;
use crate::layers::cors::Origins;
use crate::layers::deadline::Timeouts;
use crate::layers::guard::Hosts;
use crate::layers::memory::Budget;
use crate::layers::rate::RateLimit;
use crate::layers::request_id::Form;
use crate::layers::{
    Handle, Verb, access_log, admission, body, breaker, cors, deadline, encoding, guard, panic,
    rate, request_id, trace,
};
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::telemetry::traces::Tracer;

/// What all stacks share. What counts or is drawn lives on when the routes are reloaded.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// When everything ends.
    pub drain: Drain,
    /// Names that may be used for the listeners.
    pub hosts: Hosts,
    /// Pages that may call.
    pub origins: Origins,
    /// Which requests get a line.
    pub access_log: AccessLog,
    /// What decides which requests are traced, where any are.
    pub tracer: Option<Tracer>,
    /// What routes find again after a reload.
    pub kept: Kept,
    /// Streams in the process.
    pub streams: Arc<StreamSlots>,
    /// Bodies in the process.
    pub bodies: Arc<Budget>,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How large a payload NATS takes.
    pub max_payload: MaxPayload,
    /// Whether answers are compressed for clients that ask.
    pub compression: bool,
}

impl Shared {
    /// The rate limit of a route, the same for whoever asks; none where there is none.
    #[must_use]
    pub fn rate(&self, name: &str, kind: Kind, policy: &Policy) -> Option<Arc<RateLimit>> {
        let rate = policy.rate.as_ref()?;
        let make = || RateLimit::new(rate);
        Some(self.kept.rates.of(&key(name, kind), rate.clone(), make))
    }

    /// The places of a route, the same for whoever asks.
    #[must_use]
    pub fn places(
        &self,
        name: &str,
        kind: Kind,
        policy: &Policy,
        metrics: &RouteMetrics,
    ) -> Arc<Places> {
        let (waiting, drain) = (&metrics.waiting, &self.drain);
        let make = || Places::new(concurrency(kind, policy), waiting.clone(), drain.clone());
        self.kept.places.of(&key(name, kind), (), make)
    }

    fn circuit(
        &self,
        name: &str,
        kind: Kind,
        policy: &Policy,
        metrics: &RouteMetrics,
    ) -> Option<Arc<Circuit>> {
        let settings = policy.breaker?;
        let make = || Circuit::new(settings, metrics.breaker.clone());
        Some(self.kept.circuits.of(&key(name, kind), settings, make))
    }
}

/// A route is the same route as long as it has its name and answers in the same way.
fn key(name: &str, kind: Kind) -> String {
    format!("{name} {}", kind.word())
}

/// Nobody queues for a stream's place: it is free when another's stream ends, and nobody knows when that is.
fn concurrency(kind: Kind, policy: &Policy) -> Concurrency {
    match kind {
        Kind::Stream => Concurrency {
            queue: 0,
            ..policy.concurrency
        },
        _ => policy.concurrency,
    }
}

/// Builds stacks.
pub(super) struct Stacks<'a> {
    shared: &'a Shared,
    /// What the built ones stand on.
    standing: RefCell<Standing>,
}

impl<'a> Stacks<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            standing: RefCell::default(),
        }
    }

    /// What all stacks that were built stand on.
    pub(super) fn into_standing(self) -> Standing {
        self.standing.into_inner()
    }

    /// The stack of a route's kind around its verb.
    pub(super) fn around(&self, route: Route, allow: &str) -> Verb {
        let (name, kind, policy) = (route.name.as_ref(), route.kind, &route.policy);
        let metrics = self.shared.metrics.route(name, route.method.as_str());
        let rate = self.shared.rate(name, kind, policy);
        let places = self.shared.places(name, kind, policy, &metrics);
        let circuit = self.shared.circuit(name, kind, policy, &metrics);
        let mut standing = self.standing.borrow_mut();
        standing.add(&places, concurrency(kind, policy), circuit.as_ref());
        let parts = Parts {
            shared: self.shared,
            named: access_log::Named {
                route: route.name.as_ref().into(),
                path: route.path.as_ref().into(),
                method: route.method,
            },
            metrics: Arc::new(metrics),
            places,
            circuit,
            policy: route.policy,
            methods: HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static("")),
            rate,
        };
        let stack = match route.kind {
            Kind::Unary => parts.unary(route.verb),
            Kind::Upload(silence) => parts.upload(route.verb, silence),
            Kind::Stream => return parts.streaming(route.verb),
        };
        match self.shared.compression {
            true => super::compression::around(stack),
            false => stack,
        }
    }

    /// What answers where no route is.
    pub(super) fn not_found(&self) -> Verb {
        self.refusal("not-found", "", || {
            Problem::new(Code::NotFound).into_response()
        })
    }

    /// What answers where the path has other methods.
    pub(super) fn method_not_allowed(&self, allow: &str) -> Verb {
        let value = HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static(""));
        self.refusal("method-not-allowed", allow, move || {
            let mut response = Problem::new(Code::MethodNotAllowed).into_response();
            response.headers_mut().insert(ALLOW, value.clone());
            response
        })
    }

    /// A short stack: what is refused anyway needs no limits, but is counted, guarded, and may be a
    /// preflight.
    fn refusal(
        &self,
        name: &str,
        allow: &str,
        refuse: impl Fn() -> Response + Send + Sync + 'static,
    ) -> Verb {
        let shared = self.shared;
        let named = access_log::Named {
            route: name.into(),
            path: "".into(),
            method: Method::OPTIONS,
        };
        let metrics = Arc::new(shared.metrics.route(name, "any"));
        let methods = HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static(""));
        let refuse = Verb::of_fn(move |_| {
            let response = refuse();
            Box::pin(async move { response })
        });
        Verb::of_stack(
            ServiceBuilder::new()
                .layer(request_id::layer(Form::Whole))
                .layer(access_log::layer(named, metrics, shared.access_log))
                .layer(cors::layer(&shared.origins, methods))
                .layer(guard::layer(&shared.hosts, &shared.origins))
                .service(refuse),
        )
    }
}

/// What the layers of one route are made from.
struct Parts<'a> {
    shared: &'a Shared,
    named: access_log::Named,
    metrics: Arc<RouteMetrics>,
    policy: Policy,
    methods: HeaderValue,
    rate: Option<Arc<RateLimit>>,
    circuit: Option<Arc<Circuit>>,
    places: Arc<Places>,
}

impl Parts<'_> {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            default: self.policy.timeout,
            max: self.policy.timeout_max,
        }
    }

    fn rules(&self, intake: Intake) -> Rules {
        Rules {
            limit: self.policy.body_limit,
            max_payload: self.shared.max_payload.clone(),
            intake,
            budget: Arc::clone(&self.shared.bodies),
            drain: self.shared.drain.clone(),
        }
    }

    /// One request, one answer.
    fn unary(self, verb: Verb) -> Verb {
        let whole = Intake::Whole(self.shared.body_timeout);
        let stack = ServiceBuilder::new()
            // Where there is neither a place nor a wait for one, nothing is read.
            .layer(admission::gate(Arc::clone(&self.places)))
            // Draws memory and reads: who is slow to send holds that, and no place.
            .layer(body::layer(self.rules(whole)))
            // A place, or a bounded wait for one.
            .layer(admission::layer(Arc::clone(&self.places)))
            .service(verb);
        self.answering(stack)
    }

    /// The same with a body that is sent on as it comes.
    fn upload(self, verb: Verb, silence: Duration) -> Verb {
        let streamed = Intake::Streamed(silence);
        let stack = ServiceBuilder::new()
            // A place, or a bounded wait for one: here reading is the work.
            .layer(admission::layer(Arc::clone(&self.places)))
            // Only who has a place draws memory and reads.
            .layer(body::layer(self.rules(streamed)))
            .service(verb);
        self.answering(stack)
    }

    /// What both have around that.
    fn answering(self, inner: impl Handle) -> Verb {
        let (shared, policy, metrics) = (self.shared, &self.policy, &self.metrics);
        let stack = ServiceBuilder::new()
            // Outermost: every answer has an id, and every problem becomes JSON here.
            .layer(request_id::layer(Form::Whole))
            // Around the log, whose line names the span, and before anything that takes time.
            .layer(trace::layer(shared.tracer.clone(), self.named.clone()))
            // Sees every answer as the client will, whoever inside gave it.
            .layer(access_log::layer(
                self.named.clone(),
                Arc::clone(metrics),
                shared.access_log,
            ))
            // A problem from any layer below must be readable for a listed page.
            .layer(cors::layer(&shared.origins, self.methods.clone()))
            // A panic below is an answer like any other to those above.
            .layer(panic::layer())
            // Refuses what a browser was tricked into before it costs or does anything.
            .layer(guard::layer(&shared.hosts, &shared.origins))
            // A property of the request alone, so before what depends on load.
            .layer(encoding::layer())
            // The clock starts before anything waits.
            .layer(deadline::layer(self.timeouts(), &shared.drain))
            // A greedy client is told so before it can fill the queue or trip the breaker.
            .layer(rate::layer(self.rate.clone()))
            // What is known to be dead takes no place.
            .layer(breaker::layer(self.circuit.clone(), policy.timeout))
            .service(inner);
        Verb::of_stack(stack)
    }

    /// The answer is a stream: the timeout ends at its head, the permit with its body, nothing is
    /// compressed, and there is no body to read.
    fn streaming(self, verb: Verb) -> Verb {
        let (shared, policy, metrics) = (self.shared, &self.policy, &self.metrics);
        let stack = ServiceBuilder::new()
            // As above, and tells proxies neither to gather nor to transform.
            .layer(request_id::layer(Form::Stream))
            // As above; the span ends with the head.
            .layer(trace::layer(shared.tracer.clone(), self.named.clone()))
            // The duration is that of the head; the log line is written when the stream ends.
            .layer(access_log::layer(
                self.named.clone(),
                Arc::clone(metrics),
                shared.access_log,
            ))
            // As above.
            .layer(cors::layer(&shared.origins, self.methods.clone()))
            // As above.
            .layer(panic::layer())
            // As above; a WebSocket has no preflight and no same-origin policy but this.
            .layer(guard::layer(&shared.hosts, &shared.origins))
            // Until the head.
            .layer(deadline::layer(self.timeouts(), &shared.drain))
            // Counts openings.
            .layer(rate::layer(self.rate.clone()))
            // Counts openings that failed.
            .layer(breaker::layer(self.circuit.clone(), policy.timeout))
            // A place on the route and one in the process, both held until the body ends.
            .layer(admission::stream_layer(
                Arc::clone(&self.places),
                metrics.streams.clone(),
                Arc::clone(&shared.streams),
            ))
            .service(verb);
        Verb::of_stack(stack)
    }
}
