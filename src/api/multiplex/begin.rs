//! What a frame begins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::connection::{Answered, Connection, Done, Taken};
use super::frame::{self, Content, Id, Op, Refused};
use super::{SUBSCRIPTIONS_MAX, answer};
use crate::api::request::{no_room_for_reply, written_down};
use crate::api::subscribe::Opening;
use crate::api::websocket::Gone;
use crate::config::Confirm;
use crate::layers::body::no_room;
use crate::layers::memory::Drawn;
use crate::nats::Reply;
use crate::problem::{Code, Outcome, Problem, Source};
use crate::subject::Name;
use crate::telemetry::traces;

impl Connection {
    pub(super) async fn take(&mut self, frame: &Bytes) -> Result<(), Gone> {
        let begun = match frame::read(frame, traces::client_context(self.verb.tracer.as_ref())) {
            Ok(Op::Unsubscribe { id }) => match self.unsubscribe(&id) {
                Ok(true) => return self.send(answer::ok(&id)).await,
                other => refused(Some(id), other.map(drop)),
            },
            Ok(Op::Subscribe { id, subject, queue }) => {
                let begun = self.subscribe(&id, &subject, queue);
                refused(Some(id), begun)
            }
            Ok(Op::Publish {
                id,
                content,
                confirm,
                timeout,
            }) => {
                let drawn = self.draw(frame.len());
                let begun = drawn
                    .and_then(|drawn| self.publish(id.clone(), content, (confirm, timeout), drawn));
                refused(id, begun)
            }
            Ok(Op::Request {
                id,
                content,
                timeout,
            }) => {
                let drawn = self.draw(frame.len());
                let begun = drawn.and_then(|drawn| self.request(&id, content, timeout, drawn));
                refused(Some(id), begun)
            }
            Err(refused) => Err(refused),
        };
        match begun {
            Ok(()) => Ok(()),
            Err(Refused { id, problem }) => self.error(id.as_ref(), &problem).await,
        }
    }

    /// Memory for a frame, until its operation has ended.
    fn draw(&self, bytes: usize) -> Result<Drawn, Problem> {
        self.verb.bodies.draw(bytes as u64).ok_or_else(no_room)
    }

    fn publish(
        &mut self,
        id: Option<Id>,
        content: Content,
        (confirm, timeout): (Option<Confirm>, Option<Duration>),
        drawn: Drawn,
    ) -> Result<(), Problem> {
        let publishing = self.verb.publishing.clone().ok_or_else(switched_off)?;
        if let Some(id) = &id {
            self.is_free(id)?;
        }
        publishing.limits.take(self.caller.publish_rate)?;
        match &id {
            Some(id) => self.begin(id, Taken::Operation),
            None => self.unnamed += 1,
        }
        let caller = self.caller.clone();
        let origin = caller.origin(&content);
        self.in_flight.push(Box::pin(async move {
            let turnstile = &caller.turnstile;
            let published = publishing
                .publish(content, (confirm, timeout), turnstile, origin)
                .await;
            drop(drawn);
            let frame = match (&id, published) {
                (_, Err(problem)) => Some(caller.error(id.as_ref(), &problem)),
                (Some(id), Ok(Some(ack))) => Some(answer::stored(id, &ack)),
                (Some(id), Ok(None)) => Some(answer::ok(id)),
                (None, Ok(_)) => None,
            };
            Done::Answered(Answered {
                id,
                frame,
                held: None,
            })
        }));
        Ok(())
    }

    fn request(
        &mut self,
        id: &Id,
        content: Content,
        timeout: Option<Duration>,
        drawn: Drawn,
    ) -> Result<(), Problem> {
        let requesting = self.verb.requesting.clone().ok_or_else(switched_off)?;
        self.is_free(id)?;
        requesting.limits.take(self.caller.request_rate)?;
        self.begin(id, Taken::Operation);
        let id = Arc::clone(id);
        let (caller, bodies) = (self.caller.clone(), Arc::clone(&self.verb.bodies));
        let origin = caller.origin(&content);
        self.in_flight.push(Box::pin(async move {
            let reply = requesting
                .request(content, timeout, &caller.turnstile, origin, &bodies)
                .await;
            drop(drawn);
            let paid = reply.and_then(|Reply { message, held }| {
                let held = (message.payload.len(), held);
                let written = written_down(held, &bodies, || answer::reply(&id, &message));
                written.ok_or_else(no_room_for_reply)
            });
            let (frame, held) = match paid {
                Ok((frame, held)) => (frame, Some(Arc::new(held))),
                Err(problem) => (caller.error(Some(&id), &problem), problem.held()),
            };
            Done::Answered(Answered {
                id: Some(id),
                frame: Some(frame),
                held,
            })
        }));
        Ok(())
    }

    pub(super) async fn refuse_binary(&mut self) -> Result<(), Gone> {
        let problem = Problem::new(Code::InvalidBody).detail("frames are JSON texts");
        self.error(None, &problem).await
    }

    fn subscribe(&mut self, id: &Id, subject: &str, queue: Option<Name>) -> Result<(), Problem> {
        self.is_free(id)?;
        let is_subscription = |taken: &&Taken| **taken != Taken::Operation;
        if self.taken.values().filter(is_subscription).count() >= SUBSCRIPTIONS_MAX {
            return Err(Problem::new(Code::TooManyStreams)
                .detail("one connection has no more subscriptions")
                .limit(SUBSCRIPTIONS_MAX));
        }
        let opening = Opening::of_frame(
            &self.verb.session,
            self.verb.session.subscribe_to(subject)?,
            queue,
            &self.verb.defaults,
            self.verb.lifetimes.deliveries(),
        );
        let deadline = Instant::now() + self.verb.timeout;
        self.begin(id, Taken::Opening { given_up: false });
        let id = Arc::clone(id);
        self.in_flight.push(Box::pin(async move {
            Done::Opened(id, opening.live(deadline).await)
        }));
        Ok(())
    }

    /// Ends a subscription; false if it is still opening and its end is answered when it has opened.
    fn unsubscribe(&mut self, id: &Id) -> Result<bool, Problem> {
        match self.taken.get_mut(id) {
            Some(Taken::Opening {
                given_up: given_up @ false,
            }) => {
                *given_up = true;
                Ok(false)
            }
            Some(Taken::Open) => {
                self.taken.remove(id);
                self.open.retain(|(open, _)| open != id);
                Ok(true)
            }
            Some(Taken::Opening { .. } | Taken::Operation) | None => {
                Err(Problem::new(Code::NotFound).detail("no subscription has this id"))
            }
        }
    }

    fn is_free(&self, id: &Id) -> Result<(), Problem> {
        if self.taken.contains_key(id) {
            // Nobody but natsway has seen it.
            return Err(Problem::new(Code::Conflict)
                .source(Source::Client)
                .outcome(Outcome::NotSent)
                .detail("the id is taken until its subscription or operation has ended"));
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, id: &Id, taken: Taken) {
        self.taken.insert(Arc::clone(id), taken);
    }
}

fn refused(id: Option<Id>, begun: Result<(), Problem>) -> Result<(), Refused> {
    begun.map_err(|problem| Refused { id, problem })
}

fn switched_off() -> Problem {
    Problem::new(Code::NotFound).detail("the endpoint for this is switched off")
}
