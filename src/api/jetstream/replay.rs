//! `GET /v1/streams/{stream}/subscribe`: a stream's messages in order, from any position on, and then
//! as they come.
//!
//! A stream keeps its messages, so nothing is ever dropped for a reader: one that is slow, or was
//! away, reads from where it was. Readers of the same messages who have come to the present share
//! one consumer ([`feed`]); one that is behind gets a consumer of its own ([`catch_up`]) until it has
//! caught up.

mod catch_up;
mod consumer;
mod feed;
mod lease;
mod lingering;
mod look;
mod places;
mod pull;
mod reader;
mod replays;
mod selection;
mod spec;
mod start;
mod window;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;

use super::Api;
use super::access::Access;
use crate::api::query::{Params, Query};
use crate::api::stream_body::{Form, Lifetimes};
use crate::api::subscribe::{FROM_QUERY, Wanted, check_together, respond, wanted};
use crate::api::websocket;
use crate::config::{self, Param, ReplayFrom};
use crate::layers::captures::Captures;
use crate::layers::deadline::Deadline;
use crate::nats::Call;
use crate::problem::{Code, Problem};
use crate::subject::{Name, SubjectPattern, SubjectTemplate, decoded_once};
use consumer::Begin;
use look::{Look, Retention};
use reader::{Opened, Reader};
use selection::Selection;
use spec::Spec;
use start::{Start, trimmed};

pub use replays::Replays;

/// Where a route's stream and subjects come from.
#[derive(Clone, Debug)]
enum Asked {
    /// The path and the query.
    Request,
    /// The route's own.
    Declared(Name, Option<SubjectTemplate>),
}

/// The verb, prepared for one route.
#[derive(Debug)]
pub struct Replay {
    replays: Arc<Replays>,
    asked: Asked,
    /// What may be shown; everything, where the operator has named the stream and no subjects.
    access: Option<Access>,
    params: Params,
    from: ReplayFrom,
    until_now: bool,
    waits: bool,
    lifetimes: Lifetimes,
}

const PARAMS: [&str; 9] = [
    "encoding",
    "errors",
    "format",
    "from",
    "last_event_id",
    "max",
    "subject",
    "timeout",
    "until",
];

impl Replay {
    /// `GET /v1/streams/{stream}/subscribe`.
    #[must_use]
    pub fn built_in(
        replays: &Arc<Replays>,
        subjects: &config::Subjects,
        waits: bool,
        lifetimes: Lifetimes,
    ) -> Self {
        Self {
            replays: Arc::clone(replays),
            asked: Asked::Request,
            access: Some(Access::new(subjects.policy())),
            params: Params::built_in(&PARAMS),
            from: ReplayFrom::New,
            until_now: false,
            waits,
            lifetimes,
        }
    }

    /// A declared route. The operator has chosen stream and subjects, so both are allowed.
    #[must_use]
    pub fn declared(
        replays: &Arc<Replays>,
        action: &config::ReplayAction,
        params: &[Param],
        waits: bool,
        lifetimes: Lifetimes,
    ) -> Self {
        let captured = action.subject.iter().flat_map(SubjectTemplate::captures);
        let captured = captured.filter_map(|name| name.strip_prefix(FROM_QUERY));
        Self {
            replays: Arc::clone(replays),
            params: Params::declared(params, captured),
            asked: Asked::Declared(action.stream.clone(), action.subject.clone()),
            access: None,
            from: action.from,
            until_now: action.until.is_some(),
            waits,
            lifetimes,
        }
    }

    fn named(
        &self,
        captures: &Captures,
        query: &Query<'_>,
    ) -> Result<(Name, Vec<SubjectPattern>), Problem> {
        let (stream, subjects) = match &self.asked {
            Asked::Request => {
                let stream = Access::stream(captures.get("stream").unwrap_or_default())?;
                let subjects = query
                    .all(Param::Subject.as_str())
                    .map(|subject| SubjectPattern::parse(decoded_once(subject)?));
                (stream, subjects.collect::<Result<Vec<_>, _>>()?)
            }
            Asked::Declared(stream, template) => {
                let value = |name: &str| match name.strip_prefix(FROM_QUERY) {
                    Some(name) => query.captured(name),
                    None => captures.get(name),
                };
                let subject = template
                    .as_ref()
                    .map(|template| template.bind_pattern(value));
                (stream.clone(), subject.transpose()?.into_iter().collect())
            }
        };
        if !subjects.is_empty() {
            check_together(&subjects)?;
        }
        Ok((stream, subjects))
    }

    /// The subjects that are asked for, or where there are none all that the stream captures.
    fn permit(&self, subjects: &[SubjectPattern], look: Option<&Look>) -> Result<(), Problem> {
        let Some(access) = &self.access else {
            return Ok(());
        };
        match look {
            Some(look) if subjects.is_empty() => access.permit_all(&look.subjects),
            None if !subjects.is_empty() => {
                let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
                access.permit_all(&subjects)
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn open(
        &self,
        (stream, subjects): (Name, Vec<SubjectPattern>),
        spec: &Spec,
        deadline: Deadline,
    ) -> Result<Opened, Problem> {
        tokio::select! {
            biased;
            opened = self.try_open(stream, subjects, spec, deadline) => opened,
            () = self.lifetimes.drain.draining() => Err(Problem::new(Code::ShuttingDown)),
        }
    }

    async fn try_open(
        &self,
        stream: Name,
        subjects: Vec<SubjectPattern>,
        spec: &Spec,
        deadline: Deadline,
    ) -> Result<Opened, Problem> {
        let call = Call {
            deadline: deadline.at,
            wait: self.waits,
        };
        self.permit(&subjects, None)?;
        let api = &self.replays.api;
        let look = self.look(&stream, spec, call).await?;
        self.permit(&subjects, Some(&look))?;
        if look.retention == Retention::WorkQueue {
            return Err(Problem::new(Code::Conflict).detail(
                "the stream is a work queue: reading it would take the messages away from its workers",
            ));
        }
        let all = subjects.is_empty();
        let start = Start::of(spec.resume.as_ref(), spec.from, &look, all);
        let (position, missed, begin) = match start {
            Start::After { seq, missed } => (seq, missed, Begin::After(seq)),
            Start::Last => {
                let last = look::last_of(api, &stream, &subjects, call).await?;
                let seq = last.map_or(look.last_seq, |seq| seq - 1);
                (seq, None, Begin::After(seq))
            }
            Start::Asked(policy) => (look.last_seq, None, Begin::Asked(policy)),
        };
        let of = Arc::new(Selection::new(&stream, subjects, &look));
        let shown = spec.resume.as_ref().map(ToString::to_string);
        let mut opened = Opened {
            position,
            missed: missed.map(|gap| (shown.unwrap_or_default(), gap)),
            until: spec.until_now.then_some(look.last_seq),
            place: None,
            lease: None,
            of,
        };
        self.prepare(&mut opened, begin, &look, call).await?;
        Ok(opened)
    }

    /// A copy of the stream may be ahead of what its leader says; a client that read there is not to
    /// be told that the stream began anew.
    async fn look(&self, stream: &Name, spec: &Spec, call: Call) -> Result<Look, Problem> {
        let api = &self.replays.api;
        let mut look = Look::at(api, stream, call).await?;
        for _ in 0..10 {
            if look.is_single || !is_ahead(spec, &look) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            look = Look::at(api, stream, call).await?;
        }
        Ok(look)
    }

    /// Makes sure that the messages will come before the head says so.
    async fn prepare(
        &self,
        opened: &mut Opened,
        begin: Begin,
        look: &Look,
        call: Call,
    ) -> Result<(), Problem> {
        let is_resolved = matches!(begin, Begin::After(_));
        if opened.until.is_none() {
            let place = self.replays.join(&opened.of, opened.position, look);
            let live = place.live(call.deadline).await;
            live.map_err(replays::of_consumer)?;
            opened.place = Some(place);
        }
        let is_done = opened.until.is_some_and(|until| opened.position >= until);
        if is_resolved && (opened.until.is_none() || is_done) {
            return Ok(());
        }
        let leased = self.replays.lease(&opened.of, begin, look.last_seq, call);
        let (lease, look, position) = leased.await?;
        opened.lease = Some(lease);
        let before_first = look.first_seq - 1;
        if !is_resolved {
            opened.position = position;
        } else if before_first > opened.position {
            let all = opened.of.filters.is_empty();
            let missed = opened.missed.take();
            let (shown, gap) = missed.unwrap_or_else(|| {
                let shown = opened.of.at(opened.position).to_string();
                (shown, trimmed(opened.position + 1, before_first, all))
            });
            // What the first look saw may have become more.
            let gap = match gap.range {
                Some((from, _)) => trimmed(from, before_first, all),
                None => gap,
            };
            opened.missed = Some((shown, gap));
            opened.position = before_first;
        }
        Ok(())
    }

    fn reader(&self, opened: Opened, spec: &Spec, shape: crate::api::subscribe::Shape) -> Reader {
        Reader::new(
            opened,
            &self.replays,
            self.access.clone(),
            (shape, spec.view),
            self.lifetimes.deliveries(),
        )
    }
}

fn is_ahead(spec: &Spec, look: &Look) -> bool {
    match (&spec.resume, spec.from) {
        (Some(id), _) => id.fits(look.tag) && id.seq > look.last_seq,
        (None, ReplayFrom::Seq(seq)) => seq.saturating_sub(1) > look.last_seq,
        (None, _) => false,
    }
}

/// The handler.
///
/// # Errors
/// What is wrong with the request, or why the stream cannot be read.
pub async fn handle(
    State(verb): State<Arc<Replay>>,
    request: Request,
) -> Result<Response, Problem> {
    let deadline = Deadline::of(&request);
    let (mut parts, _body) = request.into_parts();
    let uri = parts.uri.clone();
    let query = Query::parse(uri.query(), &verb.params)?;
    let wanted = wanted(&parts.headers)?;
    let spec = Spec::read(&query, &parts.headers, wanted, verb.from, verb.until_now)?;
    let named = verb.named(Captures::of(&parts.extensions)?, &query)?;
    let form = match wanted {
        Wanted::Sse => Form::Sse,
        Wanted::Ndjson => Form::Ndjson,
        Wanted::WebSocket => return upgrade(&verb, &mut parts, named, &spec, deadline).await,
    };
    let opened = verb.open(named, &spec, deadline).await?;
    let reader = verb.reader(opened, &spec, spec.view.blocks(form));
    Ok(respond(reader, form, &verb.lifetimes))
}

async fn upgrade(
    verb: &Replay,
    parts: &mut Parts,
    named: (Name, Vec<SubjectPattern>),
    spec: &Spec,
    deadline: Deadline,
) -> Result<Response, Problem> {
    let upgrade = websocket::Upgrade::of(parts).await?;
    let opened = verb.open(named, spec, deadline).await?;
    let reader = verb.reader(opened, spec, spec.view.frames());
    Ok(upgrade.stream(reader, spec.view.raw, &verb.lifetimes))
}
