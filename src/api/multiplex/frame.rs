//! What a client sends: one JSON object a text frame.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Confirm;
use crate::problem::{Code, Problem};
use crate::subject::Name;
use crate::translate::batch_line::{self, DataEncoding};
use crate::translate::duration;
use crate::translate::headers::{JsonHeaders, set_message_id};
use crate::translate::{ClientContext, JsonText};

/// The longest id, written as JSON: it comes back with every message.
const ID_BYTES_MAX: usize = 128;

/// What a client calls an operation or a subscription, written as JSON.
pub(super) type Id = Arc<str>;

/// A message as a client wrote it.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    pub(super) subject: String,
    pub(super) headers: Option<async_nats::HeaderMap>,
    pub(super) payload: Bytes,
}

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Op {
    Subscribe {
        id: Id,
        subject: String,
        queue: Option<Name>,
    },
    Unsubscribe {
        id: Id,
    },
    Publish {
        id: Option<Id>,
        content: Content,
        confirm: Option<Confirm>,
        timeout: Option<Duration>,
    },
    Request {
        id: Id,
        content: Content,
        timeout: Option<Duration>,
    },
}

/// A frame that asks for nothing that can be done.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) id: Option<Id>,
    pub(super) problem: Problem,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    op: JsonText<'a>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<JsonText<'a>>,
    #[serde(borrow)]
    queue: Option<JsonText<'a>>,
    #[serde(borrow, default, deserialize_with = "batch_line::present")]
    data: Option<&'a RawValue>,
    encoding: Option<DataEncoding>,
    #[serde(borrow)]
    headers: Option<JsonHeaders<'a>>,
    #[serde(borrow)]
    msg_id: Option<JsonText<'a>>,
    confirm: Option<Confirm>,
    #[serde(borrow)]
    timeout: Option<JsonText<'a>>,
}

/// The id of an object that is none of our frames.
#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Reads one frame. `context` says what becomes of a trace context among its headers.
pub(super) fn read(frame: &Bytes, context: ClientContext) -> Result<Op, Refused> {
    // serde would take an array as a struct without names.
    if frame.trim_ascii_start().first() != Some(&b'{') {
        let problem = invalid("a frame is one JSON object");
        return Err(Refused { id: None, problem });
    }
    let members: Members<'_> = match serde_json::from_slice(frame) {
        Ok(members) => members,
        Err(error) => {
            let known: Option<OnlyId<'_>> = serde_json::from_slice(frame).ok();
            return Err(Refused {
                id: known
                    .and_then(|known| known.id)
                    .and_then(|id| read_id(id).ok()),
                problem: invalid(error.to_string()),
            });
        }
    };
    let id = members.id.map(read_id).transpose();
    let id = id.map_err(|problem| Refused { id: None, problem })?;
    let op = members.read(id.clone(), frame, context);
    op.map_err(|problem| Refused { id, problem })
}

/// A string or a whole number.
fn read_id(raw: &RawValue) -> Result<Id, Problem> {
    let text = match serde_json::from_str(raw.get()) {
        Ok(serde_json::Value::String(text)) => serde_json::Value::String(text).to_string(),
        Ok(serde_json::Value::Number(number)) if !number.is_f64() => number.to_string(),
        _ => return Err(invalid("`id` is a string or a whole number")),
    };
    if text.len() > ID_BYTES_MAX {
        return Err(invalid("`id` is too long").limit(ID_BYTES_MAX));
    }
    Ok(text.into())
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::InvalidBody).detail(detail)
}

impl Members<'_> {
    fn read(self, id: Option<Id>, frame: &Bytes, context: ClientContext) -> Result<Op, Problem> {
        let op = self.op.0.to_string();
        let needed = |id: Option<Id>| id.ok_or_else(|| invalid(format!("`{op}` needs an `id`")));
        match &*self.op.0 {
            "subscribe" => {
                self.refuse(&[
                    "data", "encoding", "headers", "msg_id", "confirm", "timeout",
                ])?;
                let queue = self.queue.as_ref().map(|queue| Name::parse(&queue.0));
                Ok(Op::Subscribe {
                    id: needed(id)?,
                    queue: queue.transpose()?,
                    subject: self.subject()?,
                })
            }
            "unsubscribe" => {
                self.refuse(&[
                    "subject", "queue", "data", "encoding", "headers", "msg_id", "confirm",
                    "timeout",
                ])?;
                Ok(Op::Unsubscribe { id: needed(id)? })
            }
            "publish" => {
                self.refuse(&["queue"])?;
                Ok(Op::Publish {
                    id,
                    confirm: self.confirm,
                    timeout: self.timeout()?,
                    content: self.content(frame, context)?,
                })
            }
            "request" => {
                self.refuse(&["queue", "confirm", "msg_id"])?;
                Ok(Op::Request {
                    id: needed(id)?,
                    timeout: self.timeout()?,
                    content: self.content(frame, context)?,
                })
            }
            _ => Err(invalid(
                "`op` is `subscribe`, `unsubscribe`, `publish` or `request`",
            )),
        }
    }

    /// Refuses members that mean nothing to the operation: a wish that is ignored is a lie.
    fn refuse(&self, names: &[&str]) -> Result<(), Problem> {
        let present = |name: &str| match name {
            "subject" => self.subject.is_some(),
            "queue" => self.queue.is_some(),
            "data" => self.data.is_some(),
            "encoding" => self.encoding.is_some(),
            "headers" => self.headers.is_some(),
            "msg_id" => self.msg_id.is_some(),
            "confirm" => self.confirm.is_some(),
            _ => self.timeout.is_some(),
        };
        match names.iter().find(|name| present(name)) {
            Some(name) => Err(invalid(format!("`{}` takes no `{name}`", self.op.0))),
            None => Ok(()),
        }
    }

    fn subject(&self) -> Result<String, Problem> {
        let subject = self.subject.as_ref();
        let missing = || invalid(format!("`{}` needs a `subject`", self.op.0));
        Ok(subject.ok_or_else(missing)?.0.to_string())
    }

    fn timeout(&self) -> Result<Option<Duration>, Problem> {
        let parsed = self.timeout.as_ref().map(|text| duration::parse(&text.0));
        let timeout = parsed.transpose().map_err(|error| {
            Problem::new(Code::InvalidParameter).detail(format!("timeout: {error}"))
        })?;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(
                Problem::new(Code::InvalidParameter).detail("timeout: must be longer than 0")
            );
        }
        Ok(timeout)
    }

    fn content(&self, frame: &Bytes, context: ClientContext) -> Result<Content, Problem> {
        let headers = self.headers.as_ref();
        let headers = headers.map(|headers| headers.to_nats(context)).transpose();
        let mut headers = headers?.flatten();
        if let Some(id) = &self.msg_id {
            set_message_id(&mut headers, None, &id.0, "msg_id")?;
        }
        let payload = batch_line::payload(frame, self.data, self.encoding);
        Ok(Content {
            subject: self.subject()?,
            headers,
            payload: payload.map_err(|error| invalid(error.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(json: &str) -> Result<Op, Refused> {
        read(
            &Bytes::copy_from_slice(json.as_bytes()),
            ClientContext::Kept,
        )
    }

    #[test]
    fn each_operation_is_read() {
        let subscribe = frame(r#"{"op":"subscribe","id":"a","subject":"orders.*","queue":"q"}"#);
        let Ok(Op::Subscribe { id, subject, queue }) = subscribe else {
            panic!("{subscribe:?}");
        };
        assert_eq!((&*id, &*subject), ("\"a\"", "orders.*"));
        assert_eq!(queue.unwrap().as_str(), "q");
        let unsubscribe = frame(r#"{"op":"unsubscribe","id":7}"#).unwrap();
        assert_eq!(unsubscribe, Op::Unsubscribe { id: "7".into() });
        let publish = frame(
            r#"{"op":"publish","subject":"a","data":{"x":1},"headers":{"Order-Id":"7"},"confirm":"stream","msg_id":"m"}"#,
        );
        let Ok(Op::Publish {
            id,
            content,
            confirm,
            ..
        }) = publish
        else {
            panic!("{publish:?}");
        };
        assert_eq!((id, confirm), (None, Some(Confirm::Stream)));
        assert_eq!(content.payload, "{\"x\":1}");
        let headers = content.headers.unwrap();
        assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "m");
        let request = frame(r#"{"op":"request","id":"r","subject":"a","data":"x","timeout":"2s"}"#);
        let Ok(Op::Request {
            content, timeout, ..
        }) = request
        else {
            panic!("{request:?}");
        };
        assert_eq!(content.payload, "x");
        assert_eq!(timeout, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_id_where_there_is_one() {
        for (json, id) in [
            ("", None),
            ("{", None),
            ("[]", None),
            (
                r#"["publish",null,"a",null,"x",null,null,null,null,null]"#,
                None,
            ),
            (r#" ["unsubscribe","a"]"#, None),
            ("null", None),
            (r#""subscribe""#, None),
            (r#"{"op":"subscribe"}"#, None),
            (r#"{"op":"subscribe","id":null,"subject":"a"}"#, None),
            (r#"{"op":"subscribe","id":{},"subject":"a"}"#, None),
            (r#"{"op":"subscribe","id":1.5,"subject":"a"}"#, None),
            (r#"{"op":"subscribe","id":"a"}"#, Some("\"a\"")),
            (
                r#"{"op":"subscribe","id":"a","subject":"b","from":"all"}"#,
                Some("\"a\""),
            ),
            (r#"{"op":"ack","id":"a"}"#, Some("\"a\"")),
            (
                r#"{"op":"unsubscribe","id":"a","subject":"b"}"#,
                Some("\"a\""),
            ),
            (r#"{"op":"publish","id":"a","data":1}"#, Some("\"a\"")),
            (
                r#"{"op":"publish","id":"a","subject":"b","headers":{"Nats-Rollup":"all"}}"#,
                Some("\"a\""),
            ),
            (
                r#"{"op":"publish","id":"a","subject":"b","data":1,"encoding":"base64"}"#,
                Some("\"a\""),
            ),
            (
                r#"{"op":"request","id":"a","subject":"b","timeout":"0s"}"#,
                Some("\"a\""),
            ),
            (
                r#"{"op":"request","id":"a","subject":"b","timeout":"soon"}"#,
                Some("\"a\""),
            ),
        ] {
            let refused = frame(json).unwrap_err();
            assert_eq!(refused.id.as_deref(), id, "{json}");
            assert_eq!(refused.problem.http_status(), 400, "{json}");
        }
        let long = format!(r#"{{"op":"unsubscribe","id":"{}"}}"#, "x".repeat(200));
        assert_eq!(frame(&long).unwrap_err().id, None);
    }

    #[test]
    fn an_id_is_the_same_however_it_is_written() {
        let id = |json: &str| match frame(json) {
            Ok(Op::Unsubscribe { id }) => id,
            other => panic!("{other:?}"),
        };
        let plain = id(r#"{"op":"unsubscribe","id":"a"}"#);
        assert_eq!(plain, id(r#"{"id":"\u0061","op":"unsubscribe"}"#));
    }
}
