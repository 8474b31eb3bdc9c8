//! Publishes and requests of a connection. What they may do is what the built-in endpoints may, and they
//! share their limits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::frame::Content;
use super::limits::{Limits, Turnstile};
use crate::api::jetstream::{Api, PubAck};
use crate::api::publish;
use crate::api::request::refusal;
use crate::api::sending::{Operation, Sending};
use crate::api::session::Session;
use crate::config::{self, Confirm};
use crate::layers::deadline::{before_the_end, cut_off};
use crate::layers::memory::Budget;
use crate::lifecycle::Drain;
use crate::nats::{self, Call, Nats, Outbound, Reply};
use crate::problem::{Code, Doing, Problem};
use crate::subject::Subject;
use crate::telemetry::traces::Origin;

/// How long an operation may take.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    default: Duration,
    max: Duration,
}

impl Timeouts {
    fn deadline(self, asked: Option<Duration>) -> Result<Instant, Problem> {
        let timeout = asked.unwrap_or(self.default);
        if timeout > self.max {
            let limit = format!("{}ms", self.max.as_millis());
            return Err(Problem::new(Code::InvalidParameter)
                .detail("timeout: longer than the endpoint allows")
                .limit(limit));
        }
        Ok(Instant::now() + timeout)
    }
}

/// Publishing, as `POST /v1/publish/{subject}` does.
#[derive(Debug)]
pub struct Publishing {
    session: Session,
    confirm: Confirm,
    timeouts: Timeouts,
    pub(super) limits: Limits,
    jetstream: Api,
    drain: Drain,
}

impl Publishing {
    /// With the settings of the built-in endpoint; none where that is switched off.
    #[must_use]
    pub fn new(
        settings: &config::Publish,
        nats: &Arc<Nats>,
        limits: Limits,
        drain: &Drain,
    ) -> Option<Arc<Self>> {
        settings.enabled.then(|| {
            Arc::new(Self {
                session: Session::new(nats, &settings.subjects, settings.when_disconnected),
                confirm: settings.confirm,
                timeouts: Timeouts {
                    default: settings.timeout,
                    max: settings.timeout_max,
                },
                limits,
                jetstream: Api::new(nats),
                drain: drain.clone(),
            })
        })
    }

    /// Publishes; with what the stream says where one was asked.
    pub(super) async fn publish(
        &self,
        mut content: Content,
        (confirm, timeout): (Option<Confirm>, Option<Duration>),
        turnstile: &Turnstile,
        origin: Option<Origin>,
    ) -> Result<Option<PubAck>, Problem> {
        let call = self.session.call(self.timeouts.deadline(timeout)?);
        let subject = self.session.publish_to(&content.subject)?;
        self.limits.permit(&content.payload)?;
        let _place = self.limits.enter(turnstile, call.deadline).await?;
        let headers = &mut content.headers;
        let sending = Sending::of_frame(Operation::Publish, &subject, origin, headers);
        let message =
            Outbound::new(subject.to_nats(), content.payload).with_headers(content.headers);
        let confirm = confirm.unwrap_or(self.confirm);
        let sent = sending.run(|| self.send(&subject, message, confirm, call));
        sent.await
    }

    async fn send(
        &self,
        subject: &Subject,
        message: Outbound,
        confirm: Confirm,
        call: Call,
    ) -> Result<Option<PubAck>, Problem> {
        let confirm = match confirm {
            Confirm::None => nats::Confirm::Accepted,
            Confirm::Server => nats::Confirm::Server,
            Confirm::Stream => {
                let stored = self.jetstream.store(subject, &message, None, call);
                let stored = before_the_end(pin!(stored), &self.drain).await;
                return stored
                    .unwrap_or_else(|| Err(cut_off()))
                    .map(Some)
                    .map_err(|problem| publish::advise(problem, &message));
            }
        };
        let sent = self.session.nats().publish(message, confirm, call).await;
        sent.map(|()| None)
            .map_err(|failure| Problem::from_failure(failure, Doing::Publish))
    }
}

/// Request-reply, as `POST /v1/request/{subject}` does.
#[derive(Debug)]
pub struct Requesting {
    session: Session,
    timeouts: Timeouts,
    pub(super) limits: Limits,
}

impl Requesting {
    /// With the settings of the built-in endpoint; none where that is switched off.
    #[must_use]
    pub fn new(settings: &config::Request, nats: &Arc<Nats>, limits: Limits) -> Option<Arc<Self>> {
        settings.enabled.then(|| {
            Arc::new(Self {
                session: Session::new(nats, &settings.subjects, settings.when_disconnected),
                timeouts: Timeouts {
                    default: settings.timeout,
                    max: settings.timeout_max,
                },
                limits,
            })
        })
    }

    /// Asks, and waits for the reply.
    pub(super) async fn request(
        &self,
        mut content: Content,
        timeout: Option<Duration>,
        turnstile: &Turnstile,
        origin: Option<Origin>,
        bodies: &Arc<Budget>,
    ) -> Result<Reply, Problem> {
        let call = self.session.call(self.timeouts.deadline(timeout)?);
        let subject = self.session.publish_to(&content.subject)?;
        self.limits.permit(&content.payload)?;
        let _place = self.limits.enter(turnstile, call.deadline).await?;
        let headers = &mut content.headers;
        let sending = Sending::of_frame(Operation::Request, &subject, origin, headers);
        let message =
            Outbound::new(subject.to_nats(), content.payload).with_headers(content.headers);
        let mut reply = sending.run(|| self.ask(message, call, bodies)).await?;
        // The inbox is natsway's own business.
        reply.message.subject = subject.to_nats();
        Ok(reply)
    }

    async fn ask(
        &self,
        message: Outbound,
        call: Call,
        bodies: &Arc<Budget>,
    ) -> Result<Reply, Problem> {
        let reply = self.session.nats().request(message, call).await;
        let reply = reply.map_err(|failure| Problem::from_failure(failure, Doing::Request))?;
        refusal::check(reply, bodies)
    }
}
