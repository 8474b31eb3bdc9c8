//! `POST /v1/request/{subject}`: the body is a request, the reply is the answer.

mod collect;
mod lines;
mod many;
pub(super) mod refusal;

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;

use super::answer::{self, refuse};
use super::body;
use super::recipe::Recipe;
use super::sending::{Operation, Sending};
use super::session::Session;
use crate::config::{self, RequestAction};
use crate::layers::memory::{Budget, Drawn};
use crate::layers::{Answer, Request};
use crate::lifecycle::Drain;
use crate::nats::{Call, Failure, Nats, Outbound, Reply};
use crate::problem::{Doing, Problem};
use crate::translate::headers::HeaderError;
use crate::workers::{Own, Striped};
use many::Many;

const PARAMS: [&str; 3] = ["gap", "max_replies", "timeout"];

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
    ) -> Self {
        let session = Session::new(nats, &settings.subjects, settings.when_disconnected);
        Self {
            recipe: Recipe::built_in(session, &PARAMS),
            bodies: Arc::clone(bodies),
            drain: drain.clone(),
        }
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
    ) -> Result<Self, HeaderError> {
        Ok(Self {
            recipe: Recipe::declared(route, &action.subject, nats)?,
            bodies: Arc::clone(bodies),
            drain: drain.clone(),
        })
    }

    /// The message, and how it is answered.
    fn draft(&self, request: Request) -> Result<Draft, Problem> {
        let deadline = request.deadline();
        let Request { http, context } = request;
        let (mut parts, _body) = http.into_parts();
        let captures = context.captures.checked()?;
        let recipe = &self.recipe;
        let query = recipe.query(parts.uri.query())?;
        let many = Many::read(&query, &parts.headers)?;
        let subject = recipe.subject(captures)?;
        let sending = Sending::prepare(
            Operation::Request,
            &subject,
            &parts.extensions,
            &mut parts.headers,
        );
        let headers = recipe.headers(&parts.headers, captures, &query)?;
        let nats = recipe.session().nats();
        let payload = body::payload(context.body, headers.as_ref(), nats)?;
        Ok(Draft {
            message: Outbound::new(subject.into_nats(), payload).with_headers(headers),
            many,
            sending,
            call: recipe.session().call(deadline.at),
        })
    }

    fn finish(verb: Own<Self>, draft: Draft) -> Answer {
        let Draft {
            message,
            many,
            sending,
            call,
        } = draft;
        if let Some(many) = many {
            return Box::pin(async move {
                let nats = verb.recipe.session().nats();
                let answer =
                    sending.run(|| many.answer(message, call, nats, &verb.bodies, &verb.drain));
                answer.await.into_response()
            });
        }
        Box::pin(async move {
            let nats = verb.recipe.session().nats();
            let answer = sending.run(|| {
                nats.request(message, call).map(|reply| match reply {
                    Ok(reply) => verb.answer(reply),
                    Err(failure) => Err(Problem::from_failure(failure, Doing::Request)),
                })
            });
            answer.await.into_response()
        })
    }

    fn answer(&self, reply: Reply) -> Result<Response, Problem> {
        let Reply { message, held } = refusal::check(reply, &self.bodies)?;
        let (headers, rules) = (message.headers.as_ref(), self.recipe.rules());
        let Some(held) = held else {
            return Ok(answer::payload(message.payload, headers, rules));
        };
        // What was read along with it must not be held with it.
        let body = answer::paid(Bytes::copy_from_slice(&message.payload), held);
        Ok(answer::payload(body, headers, rules))
    }
}

/// A message, and how its replies are taken.
struct Draft {
    message: Outbound,
    many: Option<Many>,
    sending: Sending,
    call: Call,
}

/// As where it is delivered: it takes more room where it is written down.
pub(super) fn no_room_for_reply() -> Problem {
    Problem::from_failure(Failure::NoRoomForReply, Doing::Request)
}

/// A reply as it is written down, and what is held for it; nothing where there is no room for that. It is
/// paid for before as it came, for writing it down takes as much again.
pub(super) fn written_down<T: AsRef<[u8]>>(
    (payload_bytes, held): (usize, Option<Drawn>),
    bodies: &Arc<Budget>,
    write: impl FnOnce() -> T,
) -> Option<(T, Drawn)> {
    let mut held = held.or_else(|| bodies.draw(payload_bytes as u64))?;
    let written = write();
    let length = written.as_ref().len() as u64;
    held.grow_to(length).then_some((written, held))
}

/// Handles one request, as [`super::publish::handle`] does.
pub fn handle(verb: &Striped<Requester>, request: Box<Request>) -> Answer {
    match verb.draft(*request) {
        Ok(draft) => Requester::finish(verb.own(), draft),
        Err(problem) => refuse(problem),
    }
}
