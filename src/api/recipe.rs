//! How a route makes a message out of a request. Prepared when the route is built.

use async_nats::header::HeaderMap as NatsHeaders;
use http::HeaderMap;

use super::query::{Params, Query};
use super::session::Session;
use crate::config;
use crate::layers::captures::Captures;
use crate::nats::Nats;
use crate::problem::Problem;
use crate::subject::{Subject, SubjectTemplate, decoded_once};
use crate::translate::headers::{self, HeaderError, Rules};
use std::sync::Arc;

/// What stands before the name of a query parameter in a template.
const QUERY: &str = "query.";

/// Where messages go to.
#[derive(Clone, Debug)]
enum Target {
    /// To the capture `subject`, or wherever a line of the body says.
    Caller,
    /// Where the route says.
    Route(SubjectTemplate),
}

/// Subject, headers and parameters of a route, and the rights of its callers.
#[derive(Clone, Debug)]
pub struct Recipe {
    session: Session,
    target: Target,
    rules: Rules,
    params: Params,
}

impl Recipe {
    /// For a built-in endpoint: the caller names the subject.
    #[must_use]
    pub fn built_in(session: Session, params: &[&'static str]) -> Self {
        Self {
            session,
            target: Target::Caller,
            rules: Rules::default(),
            params: Params::built_in(params),
        }
    }

    /// For a declared route.
    ///
    /// # Errors
    /// When one of its headers is none that a route may use.
    pub fn declared(
        route: &config::Route,
        subject: &SubjectTemplate,
        nats: &Arc<Nats>,
    ) -> Result<Self, HeaderError> {
        let away = route.policy().when_disconnected;
        let templates = route.headers.set.values();
        let captured = templates
            .flat_map(|value| value.0.captures())
            .filter_map(|name| name.strip_prefix(QUERY));
        Ok(Self {
            session: Session::of_route(nats, [subject], away),
            target: Target::Route(subject.clone()),
            params: Params::declared(&route.params, captured),
            rules: rules_of(route)?,
        })
    }

    /// The same for a body that is cut into messages, which its `Content-Type` does not describe.
    #[must_use]
    pub fn for_lines(mut self) -> Self {
        self.rules = self.rules.without_content_type();
        self
    }

    /// What callers may do.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// What becomes of headers.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The query parameters.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn query<'q>(&self, raw: Option<&'q str>) -> Result<Query<'q>, Problem> {
        Query::parse(raw, &self.params)
    }

    /// Where the message goes to.
    ///
    /// # Errors
    /// When it is no literal subject, or not an allowed one.
    pub fn subject(&self, captures: &Captures) -> Result<Subject, Problem> {
        match &self.target {
            Target::Caller => {
                let text = captures.get("subject").unwrap_or_default();
                self.session.publish_to(decoded_once(text)?)
            }
            Target::Route(template) => {
                let subject = template.bind(|name| captures.get(name))?;
                self.session.permit_publish(&subject)?;
                Ok(subject)
            }
        }
    }

    /// The message's headers.
    ///
    /// # Errors
    /// When one is not allowed, not legal, or there are too many.
    pub fn headers(
        &self,
        http: &HeaderMap,
        captures: &Captures,
        query: &Query<'_>,
    ) -> Result<Option<NatsHeaders>, Problem> {
        let value_of = |name: &str| match name.strip_prefix(QUERY) {
            Some(name) => query.captured(name),
            None => captures.get(name),
        };
        Ok(headers::to_nats_bound(http, &self.rules, value_of)?)
    }
}

fn rules_of(route: &config::Route) -> Result<Rules, HeaderError> {
    let mut rules = Rules::default().with_message_ids_of(&route.name);
    for name in &route.headers.forward {
        rules.forward(name)?;
    }
    for (name, value) in &route.headers.set {
        rules.set(name, &value.0)?;
    }
    for name in &route.headers.returned {
        rules.give_back(name)?;
    }
    Ok(rules)
}
