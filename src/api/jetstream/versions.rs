//! What needs a newer NATS server than the oldest that natsway works with (2.10).
//!
//! An older server ignores a header it does not know, and would store a message for ever that was
//! meant to live a minute. So natsway asks first.

use crate::nats::Nats;
use crate::problem::{Code, Problem};

/// Something that came with a release of nats-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// How it is called in the problem.
    pub name: &'static str,
    /// The first release that has it.
    pub since: (u32, u32),
}

/// `?ttl=…` of a publish.
pub const MESSAGE_TTL: Feature = Feature {
    name: "a message's own time to live",
    since: (2, 11),
};

impl Feature {
    /// Refuses what the server behind the JetStream link is too old for. A server that is not known
    /// at the moment is asked in vain, and says so itself.
    ///
    /// # Errors
    /// 501 `not-supported`, with the version it needs.
    pub fn require(self, nats: &Nats) -> Result<(), Problem> {
        match nats.server_version() {
            Some(version) => self.require_of(version),
            None => Ok(()),
        }
    }

    fn require_of(self, (major, minor, patch): (u32, u32, u32)) -> Result<(), Problem> {
        if (major, minor) >= self.since {
            return Ok(());
        }
        let (needed_major, needed_minor) = self.since;
        let needed = format!("{needed_major}.{needed_minor}");
        let current = format!("{major}.{minor}.{patch}");
        let detail = format!(
            "{} needs nats-server {needed} or newer; this one is {current}",
            self.name
        );
        Err(Problem::new(Code::NotSupported)
            .detail(detail)
            .limit(needed)
            .current(current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_named_with_the_version_it_would_need() {
        assert!(MESSAGE_TTL.require_of((2, 11, 0)).is_ok());
        assert!(MESSAGE_TTL.require_of((3, 0, 0)).is_ok());
        let problem = MESSAGE_TTL.require_of((2, 10, 26)).unwrap_err();
        assert_eq!(problem.http_status(), 501);
        assert!(problem.sentence().contains("2.11"), "{problem}");
        assert_eq!(problem.to_json(None)["current"], "2.10.26");
    }
}
