//! `POST /v1/publish` with NDJSON, and `POST /v1/publish/{subject}?split=lines`: many messages in one
//! body, streamed with back-pressure and never held whole.

mod flight;
mod lane;
mod report;
mod source;
mod stored;
mod trace;
mod upload;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body as _;

use super::answer::{NDJSON, is_type};
use super::jetstream::Api;
use super::publish::confirm_of;
use super::query::{Query, invalid};
use super::recipe::Recipe;
use super::session::Session;
use crate::config::{self, Confirm, SizeLimit};
use crate::layers::body::no_room;
use crate::layers::captures::Captures;
use crate::layers::deadline::Deadline;
use crate::layers::memory::{Budget, Drawn};
use crate::nats::{Failure, Nats};
use crate::problem::{Code, Doing, Problem};
use crate::translate::ClientContext;
use crate::translate::query::pairs;
use source::Source;
use trace::Trace;
use upload::Upload;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON object that names its subject.
    Ndjson,
    /// A payload for the subject in the path.
    Lines,
}

/// Batches of one form.
#[derive(Debug)]
pub struct Batch {
    recipe: Recipe,
    form: Form,
    confirm: Confirm,
    line_limit: SizeLimit,
    bodies: Arc<Budget>,
    jetstream: Api,
    context: ClientContext,
}

impl Batch {
    /// The built-in endpoint. Its subjects and its `confirm` are those of publishing one message.
    #[must_use]
    pub fn new(
        settings: &config::Batch,
        publish: &config::Publish,
        form: Form,
        nats: &Arc<Nats>,
        bodies: &Arc<Budget>,
        context: ClientContext,
    ) -> Arc<Self> {
        let session = Session::new(nats, &publish.subjects, settings.when_disconnected);
        let params: &[&str] = match form {
            Form::Ndjson => &["confirm", "timeout"],
            Form::Lines => &["confirm", "split", "timeout"],
        };
        Arc::new(Self {
            recipe: Recipe::built_in(session, params).for_lines(),
            form,
            confirm: publish.confirm,
            line_limit: settings.line_limit,
            bodies: Arc::clone(bodies),
            jetstream: Api::new(nats),
            context,
        })
    }

    fn source(
        &self,
        head: &HeaderMap,
        captures: &Captures,
        query: &Query<'_>,
    ) -> Result<Source, Problem> {
        refuse_message_id(head)?;
        let subject = match self.form {
            Form::Lines => Some(self.recipe.subject(captures)?),
            Form::Ndjson => None,
        };
        let headers = self.recipe.headers(head, captures, query)?;
        Ok(Source::new(
            subject,
            headers,
            self.line_bytes_max(),
            self.context,
        ))
    }

    fn line_bytes_max(&self) -> usize {
        /// Room for a line's own words: subject, headers, names.
        const WORDS_BYTES: usize = 64 * 1024;
        let max_payload = self.recipe.session().nats().max_payload();
        match (self.line_limit, self.form) {
            (SizeLimit::Bytes(bytes), _) => usize::try_from(bytes).unwrap_or(usize::MAX),
            (_, Form::Lines) => max_payload,
            // The largest payload fits as base64.
            (_, Form::Ndjson) => max_payload.div_ceil(3) * 4 + WORDS_BYTES,
        }
    }

    /// Memory for the longest line there may be; what is read ahead of NATS is drawn already.
    fn draw(&self, body: &Body) -> Result<Drawn, Problem> {
        let line = self.line_bytes_max() as u64;
        let longest = body.size_hint().exact().map_or(line, |all| all.min(line));
        self.bodies.draw(longest).ok_or_else(no_room)
    }

    /// Before anything is read, so that a client that waits for `100 Continue` sends nothing.
    fn refuse_while_away(&self) -> Result<(), Problem> {
        let session = self.recipe.session();
        let waits = session.call(tokio::time::Instant::now()).wait;
        let mut links = session.nats().message_links().iter();
        if waits || links.any(|link| link.now().is_some()) {
            return Ok(());
        }
        Err(Problem::from_failure(Failure::Disconnected, Doing::Publish))
    }
}

/// Whether a request to publish is for a batch of lines.
#[must_use]
pub fn is_split(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    pairs(query).any(|(name, _)| name == "split")
}

/// One id for all lines would make the stream drop all but the first.
fn refuse_message_id(head: &HeaderMap) -> Result<(), Problem> {
    if !head.contains_key("idempotency-key") {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidHeader).detail(
        "Idempotency-Key is for one message; in a batch of JSON lines each has its own `msg_id`",
    ))
}

fn check_form(form: Form, head: &HeaderMap, query: &Query<'_>) -> Result<(), Problem> {
    match form {
        Form::Lines if query.get("split") != Some("lines") => {
            Err(invalid("split", "it is `lines`"))
        }
        Form::Ndjson if !head.get(CONTENT_TYPE).is_some_and(is_ndjson) => {
            Err(Problem::new(Code::UnsupportedMediaType)
                .detail("a batch is `application/x-ndjson`; or publish to /v1/publish/{subject}"))
        }
        _ => Ok(()),
    }
}

fn is_ndjson(value: &http::HeaderValue) -> bool {
    is_type(value.as_bytes(), NDJSON)
}

/// Handles one request.
///
/// # Errors
/// Whatever is wrong with it, or became of its lines.
pub async fn handle(State(verb): State<Arc<Batch>>, request: Request) -> Result<Response, Problem> {
    let deadline = Deadline::of(&request);
    let (mut parts, body) = request.into_parts();
    let captures = Captures::of(&parts.extensions)?;
    let query = verb.recipe.query(parts.uri.query())?;
    check_form(verb.form, &parts.headers, &query)?;
    let confirm = confirm_of(&query)?.unwrap_or(verb.confirm);
    // Its context goes into every message that has none of its own.
    let trace = Trace::begin(&parts.extensions, &mut parts.headers);
    let source = verb.source(&parts.headers, captures, &query)?;
    verb.refuse_while_away()?;
    let _drawn = verb.draw(&body)?;
    let session = verb.recipe.session();
    let upload = Upload::new(session, &verb.jetstream, confirm, deadline.timeout);
    Ok(upload.run(source.traced(trace), body).await)
}
