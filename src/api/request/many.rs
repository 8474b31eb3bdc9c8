//! One request, many replies: as an array, or each as it comes.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::collect::{Collect, End, Limits};
use super::{lines, no_room_for_reply};
use crate::api::answer::{self, NDJSON};
use crate::api::query::{Query, invalid};
use crate::layers::memory::Budget;
use crate::lifecycle::Drain;
use crate::nats::{Call, Failure, Inbound, Nats, Outbound, Reply};
use crate::problem::{Code, Doing, Problem};
use crate::translate::envelope::{Encoding, Envelope};

const NATSWAY_END: HeaderName = HeaderName::from_static("natsway-end");

/// How many may be asked for.
pub(super) const REPLIES_MAX: usize = 1000;

/// How large an array becomes.
const ARRAY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Many {
    count: Option<usize>,
    gap: Option<Duration>,
    streamed: bool,
}

impl Many {
    /// Reads it; nothing means one reply.
    pub(super) fn read(query: &Query<'_>, headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let count = query.number("max_replies")?.map(count_of).transpose()?;
        let gap = query.duration("gap")?;
        if gap.is_some_and(|gap| gap.is_zero()) {
            return Err(invalid("gap", "it is longer than 0"));
        }
        if count.is_none() && gap.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            count,
            gap,
            streamed: answer::asks_for(headers, NDJSON),
        }))
    }

    /// Asks, and answers once the first reply is there.
    pub(super) async fn answer(
        self,
        message: Outbound,
        call: Call,
        nats: &Nats,
        bodies: &Arc<Budget>,
        drain: &Drain,
    ) -> Result<Response, Problem> {
        let asked_of = message.subject.clone();
        let capacity = self.count.unwrap_or(REPLIES_MAX);
        let asked = nats.request_many(message, capacity, call);
        let replies = asked.await.map_err(failed)?;
        let limits = Limits {
            count: self.count.unwrap_or(usize::MAX),
            gap: self.gap,
            deadline: call.deadline,
        };
        let mut collect = Collect::new(replies, asked_of, limits);
        let first = collect.next().await.map_err(failed)?;
        if self.streamed {
            let body = lines::body(first, collect, bodies, drain.clone())?;
            return Ok(answer::sandboxed(answer::ok(NDJSON, body)));
        }
        array(first, collect, bodies).await
    }
}

fn count_of(number: u64) -> Result<usize, Problem> {
    match usize::try_from(number) {
        Ok(count @ 2..=REPLIES_MAX) => Ok(count),
        _ => Err(invalid("max_replies", "it is 2 to 1000").limit(REPLIES_MAX)),
    }
}

/// Without any reply there is no answer.
fn too_large_alone() -> Problem {
    Problem::new(Code::BadReply)
        .detail(
            "the first reply alone is larger than an array; take them as `application/x-ndjson`",
        )
        .limit(ARRAY_BYTES_MAX)
}

fn failed(failure: Failure) -> Problem {
    Problem::from_failure(failure, Doing::Request)
}

pub(super) fn write(reply: &Inbound, out: &mut Vec<u8>) {
    let envelope = Envelope {
        subject: &reply.subject,
        headers: reply.headers.as_ref(),
        payload: &reply.payload,
        encoding: Encoding::Auto,
        jetstream: None,
    };
    envelope.write(out);
}

async fn array(
    first: Result<Reply, End>,
    mut collect: Collect,
    bodies: &Arc<Budget>,
) -> Result<Response, Problem> {
    // Small ones together, large ones as they came.
    let mut drawn = bodies.draw(0).ok_or_else(no_room_for_reply)?;
    let mut large = Vec::new();
    let mut small_bytes = 0;
    let mut json = vec![b'['];
    let mut next = first;
    let end = loop {
        let Reply { message, held } = match next {
            Ok(reply) => reply,
            Err(End::Overloaded) => return Err(no_room_for_reply()),
            Err(end) => break end,
        };
        let before = json.len();
        if before > 1 {
            json.push(b',');
        }
        write(&message, &mut json);
        if json.len() >= ARRAY_BYTES_MAX && before == 1 {
            return Err(too_large_alone());
        }
        if json.len() >= ARRAY_BYTES_MAX {
            json.truncate(before);
            break End::Size;
        }
        let more = (json.len() - before) as u64;
        let is_paid = match held {
            Some(mut held) => {
                let is_paid = held.grow_to(more);
                large.push(held);
                is_paid
            }
            None => {
                small_bytes += more;
                drawn.grow_to(small_bytes)
            }
        };
        if !is_paid {
            return Err(no_room_for_reply());
        }
        next = collect.next().await.map_err(failed)?;
    };
    json.push(b']');
    let mut response = answer::json(answer::paid(json.into(), (drawn, large)));
    let end = HeaderValue::from_static(end.as_str());
    response.headers_mut().insert(NATSWAY_END, end);
    Ok(answer::sandboxed(response))
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;
    use crate::api::query::Params;

    fn read(raw: &str, headers: &HeaderMap) -> Result<Option<Many>, Problem> {
        let query = Query::parse(Some(raw), &Params::built_in(&super::super::PARAMS)).unwrap();
        Many::read(&query, headers)
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(read("timeout=1s", &headers).unwrap(), None);
        let many = read("max_replies=2&gap=10ms", &headers).unwrap().unwrap();
        assert_eq!((many.count, many.streamed), (Some(2), false));
        assert_eq!(many.gap, Some(Duration::from_millis(10)));
        headers.insert(ACCEPT, HeaderValue::from_static(NDJSON));
        assert!(read("gap=1s", &headers).unwrap().unwrap().streamed);
        for raw in [
            "max_replies=1",
            "max_replies=0",
            "max_replies=1001",
            "gap=0s",
            "gap=5",
        ] {
            let problem = read(raw, &headers).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidParameter, "{raw}");
        }
    }
}
