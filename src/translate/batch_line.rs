//! One message as a client writes it in JSON: a line of a batch, and the same members in a
//! WebSocket frame.

use std::borrow::Cow;

use async_nats::header::HeaderMap;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::headers::{HeaderError, JsonHeaders, set_message_id};
use super::json::JsonText;
use super::traceparent::ClientContext;
use crate::subject::{Subject, SubjectError};

/// How a client wrote the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataEncoding {
    /// The value's JSON, a string with its quotes.
    Json,
    /// A string's text.
    Text,
    /// A string's text, decoded.
    Base64,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or with members that are not known or not of their kind.
    #[error("{0}")]
    Json(String),
    /// `data` and `encoding` do not fit together.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Its headers or its `msg_id`.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// `data` and `encoding` do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// `text` and `base64` need a string.
    #[error("`data` is not a string, as its `encoding` needs")]
    NotAString,
    /// Not standard base64.
    #[error("`data` is not base64")]
    NotBase64,
    /// An escape that stands for no character (half of a surrogate pair).
    #[error("`data` has an escape that is no character")]
    NoCharacter,
}

/// One message to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where to.
    pub subject: Subject,
    /// Its headers, message id included.
    pub headers: Option<HeaderMap>,
    /// Its payload; a slice of the line where no decoding was needed.
    pub payload: Bytes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    subject: JsonText<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    encoding: Option<DataEncoding>,
    #[serde(borrow)]
    headers: Option<JsonHeaders<'a>>,
    #[serde(borrow)]
    msg_id: Option<JsonText<'a>>,
}

/// Reads a `data` member so that `null` is a value like any other, and only a missing one is none.
///
/// # Errors
///
/// When the input is not JSON.
pub fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads one line. `message_id_prefix` stands before its `msg_id`; `context` says what becomes of a trace
/// context among its headers.
///
/// # Errors
///
/// Says which member is wrong, and how.
pub fn decode(
    line: &Bytes,
    message_id_prefix: Option<&str>,
    context: ClientContext,
) -> Result<Message, LineError> {
    // serde would take an array as a struct without names.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(LineError::Json("a line is one JSON object".to_owned()));
    }
    let members: Members<'_> =
        serde_json::from_slice(line).map_err(|error| LineError::Json(error.to_string()))?;
    let subject = Subject::parse(&members.subject.0)?;
    let mut headers = match &members.headers {
        Some(headers) => headers.to_nats(context)?,
        None => None,
    };
    if let Some(JsonText(id)) = &members.msg_id {
        set_message_id(&mut headers, message_id_prefix, id, "msg_id")?;
    }
    Ok(Message {
        subject,
        headers,
        payload: payload(line, members.data, members.encoding)?,
    })
}

/// The payload of a `data` member that was read from `source`.
///
/// # Errors
///
/// When the value is not what its encoding needs.
pub fn payload(
    source: &Bytes,
    data: Option<&RawValue>,
    encoding: Option<DataEncoding>,
) -> Result<Bytes, DataError> {
    let Some(data) = data.map(RawValue::get) else {
        return Ok(Bytes::new());
    };
    let is_string = data.starts_with('"');
    match encoding {
        Some(DataEncoding::Json) => Ok(source.slice_ref(data.as_bytes())),
        None if !is_string => Ok(source.slice_ref(data.as_bytes())),
        _ if !is_string => Err(DataError::NotAString),
        Some(DataEncoding::Base64) => decode_base64(&text(data)?),
        Some(DataEncoding::Text) | None => match text(data)? {
            Cow::Borrowed(text) => Ok(source.slice_ref(text.as_bytes())),
            Cow::Owned(text) => Ok(text.into()),
        },
    }
}

fn text(data: &str) -> Result<Cow<'_, str>, DataError> {
    serde_json::from_str::<JsonText<'_>>(data)
        .map(|text| text.0)
        .map_err(|_| DataError::NoCharacter)
}

fn decode_base64(text: &str) -> Result<Bytes, DataError> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    ENGINE
        .decode(text)
        .map(Bytes::from)
        .map_err(|_| DataError::NotBase64)
}

#[cfg(test)]
mod tests;
