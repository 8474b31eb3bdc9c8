//! What is known of a connection's bytes, for whoever it becomes something else than HTTP for: a WebSocket's
//! frames are not counted by those who read its messages, and of a long one nobody sees the parts go out.

use std::fmt;
use std::sync::Arc;

/// The traffic, as an extension of a request that may become an upgrade.
#[derive(Clone)]
pub struct Received {
    bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
    is_stalled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Received {
    /// Where to ask: for the bytes that came in, and whether a write has made no progress for too long.
    pub fn new(
        bytes: impl Fn() -> u64 + Send + Sync + 'static,
        is_stalled: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            bytes: Arc::new(bytes),
            is_stalled: Arc::new(is_stalled),
        }
    }

    /// Bytes since the connection was opened.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.bytes)()
    }

    /// Whether the client has taken nothing for two keep-alives, although something waits to be written.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        (self.is_stalled)()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&self.bytes()).finish()
    }
}
