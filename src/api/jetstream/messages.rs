//! `/v1/streams/{stream}/messages/…`: one stored message.
//!
//! Asked of the stream's leader: a direct get may be answered by a replica that is behind, and a
//! client that was told "stored" must find what it stored.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::JetStream;
use super::asked::Asked;
use crate::api::answer::paid;
use crate::api::query::Params;
use crate::layers::memory::Drawn;
use crate::nats::Call;
use crate::problem::{Code, Problem, Source};
use crate::subject::{Name, Subject, decoded_once};
use crate::translate::headers::{Rules, from_block, to_http};

static BY_SEQ: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["timeout"]));
static BY_SUBJECT: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["timeout", "subject"]));

#[derive(Deserialize)]
struct Answer {
    message: Stored,
}

#[derive(Deserialize)]
struct Stored {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    time: String,
}

/// `GET /v1/streams/{stream}/messages/{seq}`.
///
/// # Errors
/// Only what the contract says.
pub async fn by_seq(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    asked.query(&BY_SEQ)?;
    let stream = asked.stream()?;
    let seq = read_seq(asked.captured("seq"))?;
    let call = js.call(asked.deadline.at);
    get(&js, call, &stream, json!({"seq": seq})).await
}

/// `GET /v1/streams/{stream}/messages/last?subject=…`.
///
/// # Errors
/// Only what the contract says.
pub async fn last(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&BY_SUBJECT)?;
    let stream = asked.stream()?;
    let mut subjects = query.all("subject");
    let (Some(text), None) = (subjects.next(), subjects.next()) else {
        return Err(Problem::new(Code::InvalidParameter)
            .detail("subject: name one subject; the last message with it is wanted"));
    };
    let subject = Subject::parse(decoded_once(text)?)?;
    js.access.permit_message(subject.as_str())?;
    let call = js.call(asked.deadline.at);
    get(&js, call, &stream, json!({"last_by_subj": subject})).await
}

fn read_seq(text: &str) -> Result<u64, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(seq @ 1..) if is_number => Ok(seq),
        _ => Err(Problem::new(Code::InvalidParameter)
            .detail("a message is named by its sequence, a whole number from 1, or by `last`")),
    }
}

async fn get(js: &JetStream, call: Call, stream: &Name, body: Value) -> Result<Response, Problem> {
    let Answer { message } = js
        .api
        .read(&format!("STREAM.MSG.GET.{stream}"), &body, call)
        .await?;
    js.access.permit_message(&message.subject)?;
    // Longer than what becomes of it, and both are there for a moment only.
    let encoded = message.data.len() + message.hdrs.len();
    let drawn = js.bodies.draw(encoded as u64);
    respond(stream, &message, drawn.ok_or_else(JetStream::no_room)?)
}

fn respond(stream: &Name, message: &Stored, drawn: Drawn) -> Result<Response, Problem> {
    let strange = || {
        Problem::new(Code::BadReply)
            .source(Source::Nats)
            .detail("the stored message could not be understood")
    };
    let payload = STANDARD.decode(&message.data).map_err(|_| strange())?;
    let block = STANDARD.decode(&message.hdrs).map_err(|_| strange())?;
    let mut response = Response::new(paid(Bytes::from(payload), drawn));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    to_http(&from_block(&block), headers, &Rules::default());
    describe(headers, stream, message);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, stream: &Name, message: &Stored) {
    let mut set = |name: &'static str, value: &str| {
        // A subject that HTTP cannot carry is left out; natsway itself publishes none.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("nats-stream", stream.as_str());
    set("nats-sequence", &message.seq.to_string());
    set("nats-subject", &message.subject);
    set("nats-time-stamp", &message.time);
    set("x-content-type-options", "nosniff");
    set("content-security-policy", "sandbox");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_a_whole_number_from_one() {
        assert_eq!(read_seq("7").unwrap(), 7);
        assert_eq!(read_seq("18446744073709551615").unwrap(), u64::MAX);
        for bad in [
            "0",
            "",
            "-1",
            "+1",
            "1.0",
            "x",
            "18446744073709551616",
            " 1",
        ] {
            assert!(read_seq(bad).is_err(), "{bad:?}");
        }
    }
}
