//! How much has come in over a connection, for whoever it becomes something else than HTTP for: a
//! WebSocket's frames are not counted by those who read its messages.

use std::fmt;
use std::sync::Arc;

/// The count, as an extension of a request that may become an upgrade.
#[derive(Clone)]
pub struct Received(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Received {
    /// Where to ask.
    pub fn new(ask: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Bytes since the connection was opened.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&self.bytes()).finish()
    }
}
