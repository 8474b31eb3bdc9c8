//! The limits that an endpoint and its operations on a WebSocket have in common.

use std::pin::pin;
use std::sync::Arc;

use axum::extract::Request;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::SizeLimit;
use crate::layers::admission::{Place, Places};
use crate::layers::context::Context;
use crate::layers::rate::{Key, RateLimit};
use crate::problem::{Code, Problem};

/// The limits of one endpoint.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body; here, the largest payload.
    pub body: SizeLimit,
    /// How often.
    pub rate: Option<Arc<RateLimit>>,
    /// How many at once.
    pub places: Arc<Places>,
}

impl Limits {
    pub(super) fn key_of(&self, request: &Request) -> Option<Key> {
        self.rate.as_ref().map(|rate| {
            rate.key_of(
                request.headers(),
                Context::in_extensions(request.extensions()),
            )
        })
    }

    /// One more operation of whom the key stands for.
    pub(super) fn take(&self, key: Option<Key>) -> Result<(), Problem> {
        match (&self.rate, key) {
            (Some(rate), Some(key)) => rate.take(key).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether a payload is as small as a body must be; NATS has a limit of its own.
    pub(super) fn permit(&self, payload: &[u8]) -> Result<(), Problem> {
        match self.body {
            SizeLimit::Bytes(limit) if payload.len() as u64 > limit => {
                Err(Problem::new(Code::PayloadTooLarge).limit(limit))
            }
            _ => Ok(()),
        }
    }

    /// A place, in the order of the connection's operations.
    pub(super) async fn enter(
        &self,
        turnstile: &Turnstile,
        deadline: Instant,
    ) -> Result<Place<&Places>, Problem> {
        let _turn = self.places.wait(deadline, pin!(turnstile.0.lock())).await?;
        self.places.enter(deadline).await
    }
}

/// Where operations of one connection wait for places one behind the other, so that none overtakes.
#[derive(Debug, Default)]
pub(super) struct Turnstile(Mutex<()>);
