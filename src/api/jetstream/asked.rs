//! One request to JetStream's endpoints, taken apart.

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::{FromRequest, RawPathParams, Request};
use http::{HeaderMap, header};

use super::access::Access;
use crate::api::query::{Params, Query};
use crate::layers::body::collect;
use crate::layers::deadline::Deadline;
use crate::problem::{Code, Problem};
use crate::subject::Name;

/// What a handler gets.
#[derive(Debug)]
pub struct Asked {
    path: RawPathParams,
    query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Deadline,
    body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let deadline = Deadline::of(&request);
        let (mut parts, body) = request.into_parts();
        let path = RawPathParams::from_request_parts(&mut parts, state)
            .await
            .map_err(|_| Problem::new(Code::InvalidParameter).detail("the path is not UTF-8"))?;
        Ok(Self {
            path,
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers,
            deadline,
            body,
        })
    }
}

impl Asked {
    /// A captured part of the path, percent-decoded.
    pub(super) fn captured(&self, name: &str) -> &str {
        self.path
            .iter()
            .find(|(captured, _)| *captured == name)
            .map_or("", |(_, value)| value)
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
    pub(super) async fn body(self) -> Result<bytes::Bytes, Problem> {
        collect(self.body).await
    }
}
