//! One request to JetStream's endpoints, taken apart.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};

use super::access::Access;
use crate::api::query::{Params, Query};
use crate::layers::captures::Captures;
use crate::layers::context::Context;
use crate::layers::deadline::Deadline;
use crate::problem::Problem;
use crate::subject::Name;
use crate::telemetry::traces::Origin;

/// What a handler gets.
#[derive(Debug)]
pub struct Asked {
    path: Captures,
    query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Deadline,
    /// Where spans belong, where the request is traced.
    pub(super) origin: Option<Origin>,
    body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let deadline = Deadline::of(&request);
        let (mut parts, _body) = request.into_parts();
        let body = Context::take_body(&mut parts.extensions);
        let path = Captures::of(&parts.extensions)?.clone();
        Ok(Self {
            path,
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers,
            deadline,
            origin: parts.extensions.get().cloned(),
            body,
        })
    }
}

impl Asked {
    /// A captured part of the path, percent-decoded.
    pub(super) fn captured(&self, name: &str) -> &str {
        self.path.get(name).unwrap_or_default()
    }

    /// The stream in the path.
    pub(super) fn stream(&self) -> Result<Name, Problem> {
        Access::stream(self.captured("stream"))
    }

    /// The consumer in the path.
    pub(super) fn consumer(&self) -> Result<Name, Problem> {
        Ok(Name::parse(self.captured("consumer"))?)
    }

    /// The query parameters, of which only these are taken.
    pub(super) fn query(&self, params: &Params) -> Result<Query<'_>, Problem> {
        Query::parse(self.query.as_deref(), params)
    }

    /// Whether the client asks for NDJSON.
    pub(super) fn wants_ndjson(&self) -> bool {
        self.headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|range| {
                let media_type = range.split(';').next().unwrap_or_default().trim();
                media_type.eq_ignore_ascii_case("application/x-ndjson")
            })
    }

    /// The body, whole.
    pub(super) fn body(self) -> Bytes {
        self.body
    }
}
