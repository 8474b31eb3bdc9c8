//! Publishes and requests of a connection. What they may do is what the built-in endpoints may, and they
//! share their limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::frame::Content;
use super::limits::{Limits, Turnstile};
use crate::api::jetstream::{Api, PubAck};
use crate::api::publish;
use crate::api::request::refusal;
use crate::api::session::Session;
use crate::config::{self, Confirm};
use crate::nats::{self, Call, Inbound, Nats, Outbound};
use crate::problem::{Code, Doing, Problem};

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
}

impl Publishing {
    /// With the settings of the built-in endpoint; none where that is switched off.
    #[must_use]
    pub fn new(settings: &config::Publish, nats: &Arc<Nats>, limits: Limits) -> Option<Arc<Self>> {
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
            })
        })
    }

    /// Publishes; with what the stream says where one was asked.
    pub(super) async fn publish(
        &self,
        content: Content,
        confirm: Option<Confirm>,
        timeout: Option<Duration>,
        turnstile: &Turnstile,
    ) -> Result<Option<PubAck>, Problem> {
        let call = self.session.call(self.timeouts.deadline(timeout)?);
        let subject = self.session.publish_to(&content.subject)?;
        self.limits.permit(&content.payload)?;
        let _place = self.limits.enter(turnstile, call.deadline).await?;
        let message =
            Outbound::new(subject.to_nats(), content.payload).with_headers(content.headers);
        match confirm.unwrap_or(self.confirm) {
            Confirm::None => self.send(message, nats::Confirm::Accepted, call).await,
            Confirm::Server => self.send(message, nats::Confirm::Server, call).await,
            Confirm::Stream => {
                let stored = self.jetstream.store(&subject, &message, None, call).await;
                stored
                    .map(Some)
                    .map_err(|problem| publish::advise(problem, &message))
            }
        }
    }

    async fn send(
        &self,
        message: Outbound,
        confirm: nats::Confirm,
        call: Call,
    ) -> Result<Option<PubAck>, Problem> {
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
        content: Content,
        timeout: Option<Duration>,
        turnstile: &Turnstile,
    ) -> Result<Inbound, Problem> {
        let call = self.session.call(self.timeouts.deadline(timeout)?);
        let subject = self.session.publish_to(&content.subject)?;
        self.limits.permit(&content.payload)?;
        let _place = self.limits.enter(turnstile, call.deadline).await?;
        let message =
            Outbound::new(subject.to_nats(), content.payload).with_headers(content.headers);
        let reply = self.session.nats().request(message, call).await;
        let mut reply = reply.map_err(|failure| Problem::from_failure(failure, Doing::Request))?;
        if let Some(problem) = refusal::in_reply(&reply) {
            return Err(problem);
        }
        // The inbox is natsway's own business.
        reply.subject = subject.to_nats();
        Ok(reply)
    }
}
