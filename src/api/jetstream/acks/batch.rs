//! `POST /v1/acks`: several at once, each with its own result.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Attempt, Kind, Known};
use crate::api::answer::paid;
use crate::api::jetstream::JetStream;
use crate::api::jetstream::asked::Asked;
use crate::api::jetstream::traced::SettleSpan;
use crate::api::query::Params;
use crate::nats::Call;
use crate::problem::{Code, Problem};
use crate::translate::ack_token::Ack;

static PARAMS: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["timeout"]));

/// As many as one fetch brings.
const ENTRIES_MAX: usize = 1000;

/// Acks on their way at once.
const IN_FLIGHT_MAX: usize = 256;

/// What is drawn for an entry: its own memory while it is under way, or its result where that is a
/// problem.
const ENTRY_BYTES: u64 = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    acks: Entries,
}

/// As many as are taken, and how many there are.
#[derive(Default)]
struct Entries {
    taken: Vec<Entry>,
    count: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    kind: Option<String>,
    delay: Option<String>,
    reason: Option<String>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of acks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
        let mut entries = Entries::default();
        while entries.count < ENTRIES_MAX
            && let Some(entry) = list.next_element::<&RawValue>()?
        {
            entries
                .taken
                .push(object(entry.get()).map_err(A::Error::custom)?);
            entries.count += 1;
        }
        while entries.count >= ENTRIES_MAX && list.next_element::<IgnoredAny>()?.is_some() {
            entries.count += 1;
        }
        Ok(entries)
    }
}

/// serde would take an array as a struct without names.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<T> {
    match json.trim_ascii_start().starts_with('{') {
        true => serde_json::from_str(json),
        false => Err(serde_json::Error::custom("an object is expected")),
    }
}

fn read(body: &[u8]) -> Result<Vec<Entry>, Problem> {
    let invalid = |error: &dyn fmt::Display| {
        Problem::new(Code::InvalidBody).detail(format!("the body: {error}"))
    };
    let body = str::from_utf8(body).map_err(|error| invalid(&error))?;
    let batch: Batch = object(body).map_err(|error| invalid(&error))?;
    if batch.acks.count > ENTRIES_MAX {
        return Err(Problem::new(Code::InvalidBody)
            .detail("the body: `acks` has more than 1000 entries")
            .limit(ENTRIES_MAX));
    }
    Ok(batch.acks.taken)
}

/// `POST /v1/acks`.
///
/// # Errors
/// Only what the contract says; what is wrong with one entry stands in its result.
pub async fn many(State(js): State<Arc<JetStream>>, mut asked: Asked) -> Result<Response, Problem> {
    asked.query(&PARAMS)?;
    let origin = asked.origin.take();
    let call = js.call(asked.deadline.at);
    let entries = read(&asked.body())?;
    let drawn = js.bodies.draw(entries.len() as u64 * ENTRY_BYTES);
    let drawn = drawn.ok_or_else(JetStream::no_room)?;
    let span = SettleSpan::many(origin, entries.len());
    let mut settling = Settling {
        js: &js,
        call,
        under_way: VecDeque::new(),
        known: Known::default(),
        results: Results::default(),
    };
    for entry in &entries {
        settling.begin(entry).await;
    }
    let results = settling.finish().await;
    span.end(&Ok(()));
    let mut response = Response::new(paid(results.done(), drawn));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// An entry whose ack is on its way.
struct Sent {
    counted: usize,
    ack: Ack,
    payload: Bytes,
    attempt: Attempt,
}

struct Settling<'a> {
    js: &'a JetStream,
    call: Call,
    under_way: VecDeque<Result<Sent, Problem>>,
    known: Known,
    results: Results,
}

impl Settling<'_> {
    async fn begin(&mut self, entry: &Entry) {
        if self.under_way.len() == IN_FLIGHT_MAX {
            self.finish_next().await;
        }
        let sent = self.send(entry).await;
        self.under_way.push_back(sent);
    }

    async fn send(&self, entry: &Entry) -> Result<Sent, Problem> {
        let kind = Kind::read(
            entry.kind.as_deref(),
            entry.delay.as_deref(),
            entry.reason.as_deref(),
        )?;
        let counted = kind.counted();
        let ack = self.js.tokens.take(&entry.token).inspect_err(|problem| {
            self.js.count(counted, &Err(problem.clone()));
        })?;
        let payload = kind.payload();
        let attempt = self.js.attempt(&ack, &payload, self.call).await;
        Ok(Sent {
            counted,
            ack,
            payload,
            attempt,
        })
    }

    async fn finish_next(&mut self) {
        let Some(sent) = self.under_way.pop_front() else {
            return;
        };
        let settled = match sent {
            Ok(Sent {
                counted,
                ack,
                payload,
                attempt,
            }) => {
                let (attempt, known) = (Some(attempt), &mut self.known);
                let settling = self.js.settle(&ack, &payload, attempt, self.call, known);
                let settled = settling.await;
                self.js.count(counted, &settled);
                settled
            }
            Err(problem) => Err(problem),
        };
        self.results.push(settled);
    }

    async fn finish(mut self) -> Results {
        while !self.under_way.is_empty() {
            self.finish_next().await;
        }
        self.results
    }
}

/// The answer as far as it is written.
struct Results(Vec<u8>);

const OPENING: &[u8] = b"{\"results\":[";

impl Default for Results {
    fn default() -> Self {
        Self(OPENING.to_vec())
    }
}

impl Results {
    fn push(&mut self, settled: Result<(), Problem>) {
        let Self(out) = self;
        if out.len() > OPENING.len() {
            out.push(b',');
        }
        match settled {
            Ok(()) => out.extend_from_slice(b"{\"status\":204}"),
            Err(problem) => {
                let (status, json) = (problem.http_status().as_u16(), problem.to_json(None));
                write!(out, "{{\"status\":{status},\"problem\":{json}}}")
                    .expect("writing to a vector cannot fail");
            }
        }
    }

    fn done(self) -> Bytes {
        let Self(mut out) = self;
        out.extend_from_slice(b"]}");
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_list_is_read_up_to_its_limit() {
        let body = |count: usize| {
            let entries = vec!["{\"token\":\"\"}"; count].join(",");
            format!("{{\"acks\":[{entries}]}}")
        };
        for count in [0, 1, 1000] {
            assert_eq!(
                read(body(count).as_bytes()).map(|e| e.len()).unwrap(),
                count
            );
        }
        for count in [1001, 50_000] {
            let problem = read(body(count).as_bytes()).map(|e| e.len()).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidBody);
            assert_eq!(problem.to_json(None)["limit"], 1000);
        }
        for bad in [
            "{}",
            "[]",
            "{\"acks\":{}}",
            "{\"acks\":[{}]}",
            "{\"acks\":[],\"x\":1}",
            "[[{\"token\":\"\"}]]",
            " [[]]",
            "{\"acks\":[[\"t\",null,null,null]]}",
            "{\"acks\":[ [\"t\",null,null,null]]}",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn results_are_written_in_order() {
        let mut results = Results::default();
        results.push(Ok(()));
        results.push(Err(Problem::new(Code::ConsumerNotFound)));
        let value: Value = serde_json::from_slice(&results.done()).unwrap();
        assert_eq!(value["results"][0], json!({"status": 204}));
        assert_eq!(value["results"][1]["status"], 404);
        assert_eq!(value["results"][1]["problem"]["code"], "consumer-not-found");
        let none: Value = serde_json::from_slice(&Results::default().done()).unwrap();
        assert_eq!(none, json!({"results": []}));
    }
}
