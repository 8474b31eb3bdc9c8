//! Ack tokens as the verbs use them: the keys, and how long a token is good for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::problem::Problem;
use crate::translate::ack_token::{Ack, KeyRing};

/// Nobody is authenticated yet; a token is good for whoever holds it.
const NOBODY: &str = "";

/// Gives tokens out and takes them back.
#[derive(Clone, Debug)]
pub struct Tokens {
    keys: Arc<KeyRing>,
    ttl: Duration,
}

impl Tokens {
    /// Tokens of these keys that are good for so long.
    #[must_use]
    pub const fn new(keys: Arc<KeyRing>, ttl: Duration) -> Self {
        Self { keys, ttl }
    }

    /// The token of a delivered message; nothing where its reply subject is no ack's.
    pub(super) fn give(&self, reply: &str) -> Option<String> {
        let expires_at = now().saturating_add(self.lifetime());
        self.keys.sign(reply, NOBODY, expires_at).ok()
    }

    /// What a token stands for.
    pub(super) fn take(&self, token: &str) -> Result<Ack, Problem> {
        Ok(self.keys.verify(token, NOBODY, now())?)
    }

    /// When a token was given out, in Unix seconds.
    pub(super) fn given_at(&self, ack: &Ack) -> u64 {
        ack.expires_at.saturating_sub(self.lifetime())
    }

    fn lifetime(&self) -> u64 {
        self.ttl.as_secs().max(1)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
