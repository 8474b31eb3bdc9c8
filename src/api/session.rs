//! What a caller may do, and the only way to do it.
//!
//! A handler reaches NATS through its session, and everything a session hands out has passed the
//! route's policy. It can only narrow: nothing here widens what it was made with.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config::{Subjects, WhenDisconnected};
use crate::nats::{Call, Nats};
use crate::problem::{Code, Problem};
use crate::subject::{Subject, SubjectPattern, SubjectPolicy, SubjectTemplate};

/// The rights of one route's callers.
#[derive(Clone, Debug)]
pub struct Session {
    nats: Arc<Nats>,
    policy: Arc<SubjectPolicy>,
    wait: bool,
}

impl Session {
    /// A session for a built-in endpoint.
    #[must_use]
    pub fn new(nats: &Arc<Nats>, subjects: &Subjects, away: WhenDisconnected) -> Self {
        Self::with_policy(nats, subjects.policy(), away)
    }

    /// A session for a declared route: it reaches what its own subjects can become, and nothing else.
    #[must_use]
    pub fn of_route<'s>(
        nats: &Arc<Nats>,
        subjects: impl IntoIterator<Item = &'s SubjectTemplate>,
        away: WhenDisconnected,
    ) -> Self {
        let allow: Vec<SubjectPattern> = subjects
            .into_iter()
            .map(|template| template.widest().clone())
            .collect();
        let policy = SubjectPolicy {
            root_wildcards: allow.iter().any(SubjectPattern::is_root_wildcard),
            allow,
            deny: Vec::new(),
        };
        Self::with_policy(nats, policy, away)
    }

    fn with_policy(nats: &Arc<Nats>, policy: SubjectPolicy, away: WhenDisconnected) -> Self {
        Self {
            nats: Arc::clone(nats),
            policy: Arc::new(policy),
            wait: away.waits(),
        }
    }

    /// NATS, for subjects that this session gave out.
    #[must_use]
    pub const fn nats(&self) -> &Arc<Nats> {
        &self.nats
    }

    /// How long a call may take, and what it does while NATS is away.
    #[must_use]
    pub const fn call(&self, deadline: Instant) -> Call {
        Call {
            deadline,
            wait: self.wait,
        }
    }

    /// A subject that messages may be sent to, from its percent-decoded text.
    ///
    /// # Errors
    /// When it is no literal subject, or not an allowed one.
    pub fn publish_to(&self, text: &str) -> Result<Subject, Problem> {
        let subject = Subject::parse(text)?;
        self.permit_publish(&subject)?;
        Ok(subject)
    }

    /// Whether messages may be sent to a subject.
    ///
    /// # Errors
    /// When the route does not allow it.
    pub fn permit_publish(&self, subject: &Subject) -> Result<(), Problem> {
        if self.policy.permits_publish(subject) {
            return Ok(());
        }
        Err(Problem::new(Code::SubjectNotAllowed))
    }

    /// A pattern that may be subscribed to, from its percent-decoded text.
    ///
    /// # Errors
    /// When it is no pattern, or not an allowed one.
    pub fn subscribe_to(&self, text: &str) -> Result<SubjectPattern, Problem> {
        let pattern = SubjectPattern::parse(text)?;
        self.permit_subscribe(&pattern)?;
        Ok(pattern)
    }

    /// Whether a pattern may be subscribed to.
    ///
    /// # Errors
    /// When the route does not allow it.
    pub fn permit_subscribe(&self, pattern: &SubjectPattern) -> Result<(), Problem> {
        if self.policy.permits_subscribe(pattern) {
            return Ok(());
        }
        Err(Problem::new(Code::SubjectNotAllowed))
    }

    /// Whether a message with this subject may be shown; see [`SubjectPolicy::delivers`].
    #[must_use]
    pub fn delivers(&self, subject: &str) -> bool {
        self.policy.delivers(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::memory;
    use crate::nats::{Budget, Room};
    use crate::telemetry::metrics::Gauge;
    use crate::workers::Workers;

    fn nats() -> Arc<Nats> {
        let settings = &crate::config::Nats::default();
        let replies: Arc<dyn Room> = memory::Budget::new(1 << 20, Gauge::default());
        let here = Workers::here();
        Nats::start(settings.into(), &here, Budget::new(1 << 20), &replies)
    }

    #[tokio::test]
    async fn a_session_gives_out_what_its_policy_allows() {
        let subjects = Subjects {
            deny: vec![SubjectPattern::parse("secret.>").unwrap()],
            ..Subjects::default()
        };
        let session = Session::new(&nats(), &subjects, WhenDisconnected::Fail);
        assert_eq!(session.publish_to("orders").unwrap().as_str(), "orders");
        for (subject, code) in [
            ("a b", "invalid-subject"),
            ("a.*", "wildcard-not-allowed"),
            ("$JS.API.INFO", "subject-not-allowed"),
            ("_INBOX.x", "subject-not-allowed"),
            ("secret.x", "subject-not-allowed"),
        ] {
            let problem = session.publish_to(subject).unwrap_err();
            assert_eq!(problem.code().as_str(), code, "{subject}");
        }
        assert!(session.subscribe_to("orders.>").is_ok());
        assert!(session.subscribe_to(">").is_err());
        assert!(session.subscribe_to("secret.*").is_err());
        assert!(!session.delivers("secret.x"));
    }

    #[tokio::test]
    async fn a_routes_session_reaches_its_own_subjects() {
        let template = SubjectTemplate::parse("{x}.stock").unwrap();
        let session = Session::of_route(&nats(), [&template], WhenDisconnected::Wait);
        assert!(session.publish_to("a.stock").is_ok());
        assert!(session.publish_to("a.other").is_err());
        assert!(session.publish_to("$SYS.stock").is_err());
        assert!(session.call(Instant::now()).wait);
    }
}
