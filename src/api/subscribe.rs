//! `GET /v1/subscribe/{subject}`: messages as they come, in the form that the client asks for.
//!
//! The head of the answer is a promise: whatever is published through this natsway after it is seen.
//! So nothing is answered before every subscription is registered.

mod accept;
mod live;
mod spec;
mod view;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::deliveries::Deliveries;
use super::query::{Params, Query};
use super::session::Session;
use super::stream_body::{Feed, Form, Lifetimes, StreamBody};
use super::websocket;
use crate::config::{self, OnSlow, Param};
use crate::layers::captures::Captures;
use crate::layers::deadline::Deadline;
use crate::nats::Buffer;
use crate::problem::{Code, Doing, Problem};
use crate::subject::{Name, SubjectPattern, SubjectTemplate, decoded_once};
use crate::translate::envelope::Encoding;

pub use accept::{Wanted, wanted};
pub use live::{Live, Shape};
pub use spec::Spec;
pub use view::View;

/// How many subjects one stream may have.
pub const SUBJECTS_MAX: usize = 256;

/// Where a route's subjects come from.
#[derive(Clone, Debug)]
enum Asked {
    /// The last segment of the path.
    Path,
    /// `?subject=`, once or more often.
    Query,
    /// The route's own.
    Declared(Vec<SubjectTemplate>),
}

/// The verb, prepared for one route.
#[derive(Clone, Debug)]
pub struct Subscribe {
    session: Session,
    asked: Asked,
    params: Params,
    defaults: Defaults,
    lifetimes: Lifetimes,
}

/// What a request that does not say gets.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The queue group.
    pub queue: Option<Name>,
    /// What happens to a slow reader, where the route says it.
    pub on_slow: Option<OnSlow>,
    /// What happens to one where neither says it and there is no queue group.
    pub otherwise: OnSlow,
    /// How far a reader may fall behind.
    pub buffer: Buffer,
}

impl Defaults {
    /// Those of the built-in endpoint.
    #[must_use]
    pub const fn of(settings: &config::Subscribe) -> Self {
        Self {
            queue: None,
            on_slow: None,
            otherwise: settings.on_slow,
            buffer: buffer(settings.buffer),
        }
    }

    /// What happens to a slow reader. A member of a queue group is ended, so that NATS gives its
    /// share of the messages to the others.
    #[must_use]
    pub fn on_slow(&self, asked: Option<OnSlow>, queue: bool) -> OnSlow {
        let unsaid = if queue { OnSlow::End } else { self.otherwise };
        asked.or(self.on_slow).unwrap_or(unsaid)
    }
}

const fn buffer(settings: config::Buffer) -> Buffer {
    Buffer {
        messages: settings.messages,
        bytes: settings.bytes,
    }
}

const PARAMS: [&str; 8] = [
    "encoding",
    "errors",
    "format",
    "last_event_id",
    "max",
    "on_slow",
    "queue",
    "timeout",
];

impl Subscribe {
    /// `GET /v1/subscribe/{subject}`.
    #[must_use]
    pub fn by_path(session: Session, settings: &config::Subscribe, lifetimes: Lifetimes) -> Self {
        Self {
            session,
            asked: Asked::Path,
            params: Params::built_in(&PARAMS),
            defaults: Defaults::of(settings),
            lifetimes,
        }
    }

    /// `GET /v1/subscribe?subject=…`.
    #[must_use]
    pub fn by_query(session: Session, settings: &config::Subscribe, lifetimes: Lifetimes) -> Self {
        let params: Vec<_> = PARAMS.into_iter().chain(["subject"]).collect();
        Self {
            asked: Asked::Query,
            params: Params::built_in(&params),
            ..Self::by_path(session, settings, lifetimes)
        }
    }

    /// A declared route; `settings` are those of the built-in endpoint, for what the route leaves open.
    #[must_use]
    pub fn declared(
        session: Session,
        action: &config::SubscribeAction,
        params: &[Param],
        settings: &config::Subscribe,
        lifetimes: Lifetimes,
    ) -> Self {
        let captured = action.subjects.iter().flat_map(SubjectTemplate::captures);
        let captured = captured.filter_map(|name| name.strip_prefix(FROM_QUERY));
        let defaults = Defaults {
            queue: action.queue.clone(),
            on_slow: action.on_slow,
            buffer: buffer(action.buffer.unwrap_or(settings.buffer)),
            ..Defaults::of(settings)
        };
        Self {
            session,
            params: Params::declared(params, captured),
            asked: Asked::Declared(action.subjects.clone()),
            defaults,
            lifetimes,
        }
    }

    async fn subjects(
        &self,
        parts: &mut Parts,
        query: &Query<'_>,
    ) -> Result<Vec<SubjectPattern>, Problem> {
        let captures = Captures::of(&parts.extensions)?;
        let subjects = match &self.asked {
            Asked::Path => {
                let subject = captures.get("subject").unwrap_or_default();
                vec![self.session.subscribe_to(decoded_once(subject)?)?]
            }
            Asked::Query => {
                let subjects = query.all(Param::Subject.as_str());
                subjects
                    .map(|subject| self.session.subscribe_to(decoded_once(subject)?))
                    .collect::<Result<_, _>>()?
            }
            Asked::Declared(templates) => {
                let value = |name: &str| match name.strip_prefix(FROM_QUERY) {
                    Some(name) => query.captured(name),
                    None => captures.get(name),
                };
                let mut subjects = Vec::with_capacity(templates.len());
                for template in templates {
                    let pattern = template.bind_pattern(value)?;
                    self.session.permit_subscribe(&pattern)?;
                    subjects.push(pattern);
                }
                subjects
            }
        };
        check_together(&subjects)?;
        Ok(subjects)
    }

    async fn open(&self, spec: Spec, shape: Shape, deadline: Deadline) -> Result<Live, Problem> {
        let opening = Opening {
            session: self.session.clone(),
            spec,
            shape,
            buffer: self.defaults.buffer,
            deliveries: self.lifetimes.deliveries(),
        };
        tokio::select! {
            biased;
            live = opening.live(deadline.at) => live,
            () = self.lifetimes.drain.draining() => Err(Problem::new(Code::ShuttingDown)),
        }
    }
}

/// Before the name of a capture that comes from the query.
pub(in crate::api) const FROM_QUERY: &str = "query.";

pub(in crate::api) fn check_together(subjects: &[SubjectPattern]) -> Result<(), Problem> {
    if subjects.is_empty() {
        return Err(Problem::new(Code::InvalidParameter)
            .detail("subject: needed in the path, or once or more often in the query"));
    }
    if subjects.len() > SUBJECTS_MAX {
        return Err(Problem::new(Code::InvalidParameter)
            .detail("subject: more than one stream may have")
            .limit(SUBJECTS_MAX));
    }
    for (index, one) in subjects.iter().enumerate() {
        if let Some(other) = subjects[..index].iter().find(|other| other.overlaps(one)) {
            return Err(Problem::new(Code::InvalidParameter).detail(format!(
                "subject: `{other}` and `{one}` overlap; a message would come twice"
            )));
        }
    }
    Ok(())
}

/// A subscription that is to be opened.
#[derive(Debug)]
pub struct Opening {
    session: Session,
    spec: Spec,
    shape: Shape,
    buffer: Buffer,
    deliveries: Deliveries,
}

impl Opening {
    /// One subject, as a frame of a multiplexed WebSocket asks for it.
    #[must_use]
    pub fn of_frame(
        session: &Session,
        subject: SubjectPattern,
        queue: Option<Name>,
        defaults: &Defaults,
        deliveries: Deliveries,
    ) -> Self {
        Self {
            deliveries,
            session: session.clone(),
            shape: Shape::Object(Encoding::Auto),
            buffer: defaults.buffer,
            spec: Spec {
                subjects: vec![subject],
                on_slow: defaults.on_slow(None, queue.is_some()),
                queue,
                view: View::default(),
                returns: false,
            },
        }
    }

    /// Subscribes to all subjects; ready when the last one is.
    ///
    /// # Errors
    /// When NATS is away until the deadline, or does not take one of them.
    pub async fn live(self, deadline: Instant) -> Result<Live, Problem> {
        let hub = self.session.nats().hub();
        let call = self.session.call(deadline);
        let opening = self.spec.subjects.iter().map(|subject| {
            let queue = self.spec.queue.as_ref().map(ToString::to_string);
            hub.subscribe(subject.to_nats(), queue, self.buffer, call)
        });
        let readers = futures_util::future::try_join_all(opening).await;
        let readers =
            readers.map_err(|failure| Problem::from_failure(failure, Doing::Subscribe))?;
        Ok(Live::new(
            readers,
            &self.spec,
            self.shape,
            &self.session,
            self.deliveries,
        ))
    }
}

/// The handler.
///
/// # Errors
/// What is wrong with the request, or why NATS does not take the subscription.
pub async fn handle(
    State(verb): State<Arc<Subscribe>>,
    request: Request,
) -> Result<Response, Problem> {
    let deadline = Deadline::of(&request);
    let (mut parts, _body) = request.into_parts();
    debug_assert_eq!(parts.method, Method::GET, "the route is registered for GET");
    let uri = parts.uri.clone();
    let query = Query::parse(uri.query(), &verb.params)?;
    let wanted = wanted(&parts.headers)?;
    let subjects = verb.subjects(&mut parts, &query).await?;
    let spec = Spec::read(subjects, &query, &parts.headers, wanted, &verb.defaults)?;
    let form = match wanted {
        Wanted::Sse => Form::Sse,
        Wanted::Ndjson => Form::Ndjson,
        Wanted::WebSocket => {
            let upgrade = websocket::Upgrade::of(&mut parts).await?;
            let (raw, shape) = (spec.view.raw, spec.view.frames());
            let live = verb.open(spec, shape, deadline).await?;
            return Ok(upgrade.stream(live, raw, &verb.lifetimes));
        }
    };
    let shape = spec.view.blocks(form);
    let live = verb.open(spec, shape, deadline).await?;
    Ok(respond(live, form, &verb.lifetimes))
}

/// The answer that streams a feed.
pub fn respond(feed: impl Feed, form: Form, lifetimes: &Lifetimes) -> Response {
    let body = StreamBody::new(feed, form, lifetimes);
    let mut response = Response::new(Body::new(body));
    let content_type = HeaderValue::from_static(form.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
