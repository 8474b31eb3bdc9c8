//! `POST /v1/publish/{subject}`: the body, byte for byte, is the payload.

mod expect;
mod pub_ack;

use std::pin::pin;
use std::sync::Arc;

use async_nats::header::{
    NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID,
};
use axum::response::{IntoResponse as _, Response};
use futures_util::TryFutureExt as _;
use http::StatusCode;

use super::answer::{self, refuse};
use super::body;
use super::jetstream::Api;
use super::recipe::Recipe;
use super::sending::{Operation, Sending};
use super::session::Session;
use crate::config::{self, Confirm, PublishAction};
use crate::layers::deadline::{before_the_end, cut_off};
use crate::layers::{Answer, Request};
use crate::lifecycle::Drain;
use crate::nats::{self, Call, Nats, Outbound};
use crate::problem::{Doing, Outcome, Problem};
use crate::subject::{Name, Subject};
use crate::translate::headers::HeaderError;
use crate::workers::{Own, Striped};
use expect::Expect;

/// What the query may hold.
pub const PARAMS: [&str; 6] = [
    "confirm",
    "expect_last_seq",
    "expect_last_subject_seq",
    "expect_stream",
    "timeout",
    "ttl",
];

/// Publishing, prepared for one route.
#[derive(Debug)]
pub struct Publish {
    recipe: Recipe,
    confirm: Confirm,
    stream: Option<Name>,
    jetstream: Api,
    drain: Drain,
}

impl Publish {
    /// The built-in endpoint.
    #[must_use]
    pub fn built_in(settings: &config::Publish, nats: &Arc<Nats>, drain: &Drain) -> Self {
        let session = Session::new(nats, &settings.subjects, settings.when_disconnected);
        Self {
            recipe: Recipe::built_in(session, &PARAMS),
            confirm: settings.confirm,
            stream: None,
            jetstream: Api::new(nats),
            drain: drain.clone(),
        }
    }

    /// A declared route.
    ///
    /// # Errors
    /// When one of its headers is none that a route may use.
    pub fn declared(
        route: &config::Route,
        action: &PublishAction,
        nats: &Arc<Nats>,
        drain: &Drain,
    ) -> Result<Self, HeaderError> {
        Ok(Self {
            recipe: Recipe::declared(route, &action.subject, nats)?,
            confirm: action.confirm,
            stream: action.stream.clone(),
            jetstream: Api::new(nats),
            drain: drain.clone(),
        })
    }

    /// The message, and what shall become of it.
    fn draft(&self, request: Request) -> Result<Draft, Problem> {
        let deadline = request.deadline();
        let Request { http, context } = request;
        let (mut parts, _body) = http.into_parts();
        let captures = context.captures.checked()?;
        let (recipe, session) = (&self.recipe, self.recipe.session());
        let query = recipe.query(parts.uri.query())?;
        let confirm = confirm_of(&query)?.unwrap_or(self.confirm);
        let expect = Expect::read(&query, confirm, self.stream.as_ref())?;
        let subject = recipe.subject(captures)?;
        let sending = Sending::prepare(
            Operation::Publish,
            &subject,
            &parts.extensions,
            &mut parts.headers,
        );
        let mut headers = recipe.headers(&parts.headers, captures, &query)?;
        expect.write(&mut headers, session.nats())?;
        let payload = body::payload(context.body, headers.as_ref(), session.nats())?;
        // Shared only where somebody else asks for it.
        let promise = match confirm {
            Confirm::None => Promise::Sent(nats::Confirm::Accepted, StatusCode::ACCEPTED),
            Confirm::Server => Promise::Sent(nats::Confirm::Server, StatusCode::NO_CONTENT),
            Confirm::Stream => Promise::Stored(subject.clone(), expect),
        };
        Ok(Draft {
            message: Outbound::new(subject.into_nats(), payload).with_headers(headers),
            promise,
            sending,
            call: session.call(deadline.at),
        })
    }

    fn finish(verb: Own<Self>, draft: Draft) -> Answer {
        let Draft {
            message,
            promise,
            sending,
            call,
        } = draft;
        match promise {
            Promise::Sent(confirm, status) => Box::pin(async move {
                let nats = verb.recipe.session().nats();
                let sent = sending.run(|| {
                    let sent = nats.publish(message, confirm, call);
                    sent.map_err(|failure| Problem::from_failure(failure, Doing::Publish))
                });
                match sent.await {
                    Ok(()) => answer::empty(status),
                    Err(problem) => problem.into_response(),
                }
            }),
            Promise::Stored(subject, expect) => Box::pin(async move {
                let stored = sending.run(|| verb.store(&subject, &message, &expect, call));
                stored.await.into_response()
            }),
        }
    }

    async fn store(
        &self,
        subject: &Subject,
        message: &Outbound,
        expect: &Expect,
        call: Call,
    ) -> Result<Response, Problem> {
        let stored = self
            .jetstream
            .store(subject, message, expect.stream(), call);
        let stored = before_the_end(pin!(stored), &self.drain).await;
        match stored.unwrap_or_else(|| Err(cut_off())) {
            Ok(ack) => Ok(answer::json(pub_ack::to_json(&ack))),
            Err(problem) => Err(advise(problem, message)),
        }
    }
}

/// A message, and what shall become of it.
struct Draft {
    message: Outbound,
    promise: Promise,
    sending: Sending,
    call: Call,
}

/// What a 2xx will say.
enum Promise {
    /// That natsway, or the server, has it.
    Sent(nats::Confirm, StatusCode),
    /// That a stream has stored it, under this subject.
    Stored(Subject, Expect),
}

/// What a stream's publisher is told about sending the message again: where nobody knows whether it is
/// stored, that depends on the message. What is known stays as it is.
pub(super) fn advise(problem: Problem, message: &Outbound) -> Problem {
    match problem.message_outcome() {
        Outcome::Unknown => problem.retryable(is_stored_once(message)),
        _ => problem,
    }
}

/// Whether a stream would recognise a repeat by its id. Under an expected sequence it would not: that is
/// checked first, and the message itself may have moved it on.
fn is_stored_once(message: &Outbound) -> bool {
    message.headers.as_ref().is_some_and(|headers| {
        let has = |name| headers.get(name).is_some();
        has(NATS_MESSAGE_ID)
            && !has(NATS_EXPECTED_LAST_SEQUENCE)
            && !has(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE)
    })
}

/// Handles one request. What is wrong with it is said before anything is awaited, so that the answer's
/// future holds a message and not a request.
pub fn handle(verb: &Striped<Publish>, request: Box<Request>) -> Answer {
    match verb.draft(*request) {
        Ok(draft) => Publish::finish(verb.own(), draft),
        Err(problem) => refuse(problem),
    }
}

/// The `confirm` parameter.
///
/// # Errors
/// When it is none of the three words.
pub(super) fn confirm_of(query: &super::query::Query<'_>) -> Result<Option<Confirm>, Problem> {
    query.read("confirm", |text| match text {
        "none" => Ok(Confirm::None),
        "server" => Ok(Confirm::Server),
        "stream" => Ok(Confirm::Stream),
        _ => Err("it is `none`, `server` or `stream`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;

    fn advised(problem: Problem, headers: &[&'static str]) -> bool {
        let mut map = async_nats::HeaderMap::new();
        for name in headers {
            map.insert(*name, "1");
        }
        let subject = Subject::parse("a").unwrap();
        let message = Outbound::new(subject.to_nats(), "".into()).with_headers(Some(map));
        advise(problem, &message).is_retryable()
    }

    #[test]
    fn an_unknown_outcome_is_retryable_where_a_repeat_is_stored_once() {
        let unknown = || Problem::new(Code::ReplyTimeout).outcome(Outcome::Unknown);
        for (headers, again) in [
            (&[][..], false),
            (&["Nats-Msg-Id"], true),
            (&["Nats-Msg-Id", "Nats-Expected-Stream"], true),
            (&["Nats-Msg-Id", "Nats-Expected-Last-Sequence"], false),
            (
                &["Nats-Msg-Id", "Nats-Expected-Last-Subject-Sequence"],
                false,
            ),
        ] {
            assert_eq!(advised(unknown(), headers), again, "{headers:?}");
        }
    }

    #[test]
    fn a_known_outcome_keeps_its_advice() {
        let passing = Problem::new(Code::Overloaded).outcome(Outcome::NotSent);
        assert!(advised(passing, &[]));
        let refused = Problem::new(Code::InvalidBody).outcome(Outcome::Rejected);
        assert!(!advised(refused, &["Nats-Msg-Id"]));
    }
}
