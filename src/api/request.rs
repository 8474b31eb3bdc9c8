//! `POST /v1/request/{subject}`: the body is a request, the reply is the answer.

mod collect;
mod lines;
mod many;
pub(super) mod refusal;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::recipe::Recipe;
use super::sending::{Operation, Sending};
use super::session::Session;
use super::{answer, body};
use crate::config::{self, RequestAction};
use crate::layers::captures::Captures;
use crate::layers::deadline::Deadline;
use crate::layers::memory::Budget;
use crate::lifecycle::Drain;
use crate::nats::{Call, Nats, Outbound};
use crate::problem::{Code, Doing, Outcome, Problem};
use crate::translate::headers::HeaderError;
use many::Many;

const PARAMS: [&str; 3] = ["gap", "max_replies", "timeout"];

/// A reply from here on draws its memory: below it, the requests' own bounds are enough.
const LARGE_BYTES: usize = 64 * 1024;

/// Request-reply, prepared for one route.
#[derive(Debug)]
pub struct Requester {
    recipe: Recipe,
    bodies: Arc<Budget>,
    drain: Drain,
}

impl Requester {
    /// The built-in endpoint.
    #[must_use]
    pub fn built_in(
        settings: &config::Request,
        nats: &Arc<Nats>,
        bodies: &Arc<Budget>,
        drain: &Drain,
    ) -> Arc<Self> {
        let session = Session::new(nats, &settings.subjects, settings.when_disconnected);
        Arc::new(Self {
            recipe: Recipe::built_in(session, &PARAMS),
            bodies: Arc::clone(bodies),
            drain: drain.clone(),
        })
    }

    /// A declared route.
    ///
    /// # Errors
    /// When one of its headers is none that a route may use.
    pub fn declared(
        route: &config::Route,
        action: &RequestAction,
        nats: &Arc<Nats>,
        bodies: &Arc<Budget>,
        drain: &Drain,
    ) -> Result<Arc<Self>, HeaderError> {
        Ok(Arc::new(Self {
            recipe: Recipe::declared(route, &action.subject, nats)?,
            bodies: Arc::clone(bodies),
            drain: drain.clone(),
        }))
    }

    async fn one(&self, message: Outbound, call: Call) -> Result<Response, Problem> {
        let nats = self.recipe.session().nats();
        let reply = nats
            .request(message, call)
            .await
            .map_err(|failure| Problem::from_failure(failure, Doing::Request))?;
        if let Some(problem) = refusal::in_reply(&reply) {
            return Err(problem);
        }
        let (headers, rules) = (reply.headers.as_ref(), self.recipe.rules());
        if reply.payload.len() < LARGE_BYTES {
            return Ok(answer::payload(reply.payload, headers, rules));
        }
        let drawn = self
            .bodies
            .draw(reply.payload.len() as u64)
            .ok_or_else(no_room_for_reply)?;
        let body = answer::paid(reply.payload, drawn);
        Ok(answer::payload(body, headers, rules))
    }
}

/// The service has done its work by then, so another attempt is not the same as this one.
pub(super) fn no_room_for_reply() -> Problem {
    Problem::new(Code::Overloaded)
        .detail("the reply came, but the bodies held at once have reached `memory.bodies`")
        .outcome(Outcome::Unknown)
}

/// Handles one request.
///
/// # Errors
/// Whatever is wrong with it, or became of it.
pub async fn handle(
    State(verb): State<Arc<Requester>>,
    request: Request,
) -> Result<Response, Problem> {
    let deadline = Deadline::of(&request);
    let (mut parts, body) = request.into_parts();
    let captures = Captures::of(&parts.extensions)?;
    let recipe = &verb.recipe;
    let query = recipe.query(parts.uri.query())?;
    let many = Many::read(&query, &parts.headers)?;

    let subject = recipe.subject(captures)?;

    let session = recipe.session();
    let sending = Sending::prepare(
        Operation::Request,
        &subject,
        &parts.extensions,
        &mut parts.headers,
    );
    let headers = recipe.headers(&parts.headers, captures, &query)?;
    let payload = body::read(body, headers.as_ref(), session.nats()).await?;
    let message = Outbound::new(subject.to_nats(), payload).with_headers(headers);

    let call = session.call(deadline.at);
    match many {
        None => sending.run(verb.one(message, call)).await,
        Some(many) => {
            let answer = many.answer(message, call, session.nats(), &verb.bodies, &verb.drain);
            sending.run(answer).await
        }
    }
}
