//! Answers in JSON.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;

/// An object that was made here.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).expect("an answer of ours can be written as JSON");
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, text).into_response()
}
