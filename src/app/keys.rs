//! The keys of ack tokens: those of the configuration, or one that lives as long as the process.

use std::sync::Arc;

use super::StartError;
use crate::api::jetstream::Tokens;
use crate::config::AckTokens;
use crate::translate::ack_token::KeyRing;

/// Where keys come from.
#[derive(Debug)]
pub(super) struct AckKeys {
    /// Made once: a reload must not take back the tokens that were given out.
    of_process: Arc<KeyRing>,
}

impl AckKeys {
    /// Makes the process's own key.
    pub(super) fn new() -> Result<Self, StartError> {
        let of_process = KeyRing::random().map_err(refused)?;
        Ok(Self {
            of_process: Arc::new(of_process),
        })
    }

    /// The tokens of a configuration.
    pub(super) fn tokens(&self, settings: &AckTokens) -> Result<Tokens, StartError> {
        let Some(source) = settings.source() else {
            tracing::info!(
                "ack tokens are signed with a key of this process: they work neither on another \
                 replica nor after a restart; `ack_tokens.key_file` changes that"
            );
            return Ok(Tokens::new(Arc::clone(&self.of_process), settings.ttl));
        };
        let text = source.read().map_err(refused)?;
        let keys = KeyRing::parse(text.expose()).map_err(refused)?;
        Ok(Tokens::new(Arc::new(keys), settings.ttl))
    }
}

fn refused(error: impl std::fmt::Display) -> StartError {
    StartError::AckTokens(error.to_string())
}
