//! `POST /v1/streams/{stream}/consumers/{consumer}/fetch`: messages of a durable pull consumer.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use tokio::time::Instant;

use super::JetStream;
use super::asked::Asked;
use super::consumers::ConsumerInfo;
use super::fetching::{BYTES_MAX, Fetching, Wanted, is_push};
use super::tokens::Tokens;
use super::traced::Receiving;
use crate::api::notice::Notice;
use crate::api::query::{Params, Query, invalid};
use crate::nats::Inbound;
use crate::problem::{Code, Problem};
use crate::translate::ack_token::Delivered;
use crate::translate::envelope::{Encoding, Envelope, JetStream as FromStream};

static PARAMS: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["max", "max_bytes", "wait"]));

const MAX_DEFAULT: u64 = 10;
const MAX_LIMIT: u64 = 1000;

/// A frame of this size is worth a write of its own.
const FRAME_BYTES: usize = 64 << 10;

/// `POST /v1/streams/{stream}/consumers/{consumer}/fetch`.
///
/// # Errors
/// Only what the contract says.
pub async fn fetch(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&PARAMS)?;
    let (stream, consumer) = (asked.stream()?, asked.consumer()?);
    let wanted = Wanted {
        stream,
        consumer,
        max: max(&query)?,
        max_bytes: max_bytes(&query)?,
        until: Instant::now() + js.wait(&query)?,
    };
    let info = permitted(&js, &wanted, asked.deadline.at).await?;
    let call = js.call(asked.deadline.at);
    js.is_readable(&wanted.stream, &wanted.consumer, call)
        .await?;
    let is_ndjson = asked.wants_ndjson();
    let receiving = Receiving::begin(asked.origin, &wanted.stream, &wanted.consumer);
    let mut fetching = Fetching::new(Arc::clone(&js), wanted, &info, receiving)?;
    let writer = Writer {
        tokens: info.is_acked().then(|| js.tokens.clone()),
    };
    // The head waits for the first message, so that whatever is wrong has its status.
    let first = fetching.next().await?;
    if is_ndjson {
        // So does its line, which takes more room than the message.
        let first = first.map(|message| line(&mut fetching, &writer, &message));
        let first = first.transpose()?.flatten();
        return Ok(respond(
            "application/x-ndjson",
            lines(fetching, writer, first),
        ));
    }
    let frames = collect(&mut fetching, &writer, first).await?;
    fetching.receiving().end();
    Ok(respond(
        "application/json",
        written_one_by_one(fetching, frames),
    ))
}

fn max(query: &Query<'_>) -> Result<usize, Problem> {
    match query.number("max")?.unwrap_or(MAX_DEFAULT) {
        max @ 1..=MAX_LIMIT => Ok(usize::try_from(max).unwrap_or(usize::MAX)),
        _ => Err(invalid("max", "must be 1 to 1000").limit(MAX_LIMIT)),
    }
}

fn max_bytes(query: &Query<'_>) -> Result<Option<u64>, Problem> {
    match query.number("max_bytes")? {
        Some(0) => Err(invalid("max_bytes", "must be at least 1").limit(BYTES_MAX)),
        Some(bytes) => Ok(Some(bytes.min(BYTES_MAX))),
        None => Ok(None),
    }
}

impl JetStream {
    fn wait(&self, query: &Query<'_>) -> Result<Duration, Problem> {
        let wait = query.duration("wait")?.unwrap_or(self.timeout);
        if wait > self.timeout_max {
            return Err(invalid("wait", "longer than this route allows")
                .limit(format!("{}ms", self.timeout_max.as_millis())));
        }
        Ok(wait)
    }
}

/// What the consumer is, if it may be fetched from. Asked each time: an old server stays silent where
/// there is no consumer, and what a consumer filters by can change.
async fn permitted(
    js: &JetStream,
    wanted: &Wanted,
    deadline: Instant,
) -> Result<ConsumerInfo, Problem> {
    let call = js.call(deadline);
    let (stream, consumer) = (&wanted.stream, &wanted.consumer);
    let info = js
        .api
        .consumer_info(stream.as_str(), consumer.as_str(), call)
        .await?;
    if info.is_push() {
        return Err(is_push());
    }
    if info.has_groups() {
        return Err(Problem::new(Code::Conflict)
            .detail("the consumer has priority groups; a fetch names none"));
    }
    js.permit_filters(stream, &info.filters(), call).await?;
    Ok(info)
}

/// Writes messages as envelopes.
struct Writer {
    tokens: Option<Tokens>,
}

impl Writer {
    fn write(&self, message: &Inbound, out: &mut Vec<u8>) {
        let reply = message.reply.as_deref().unwrap_or_default();
        let token = self.tokens.as_ref().and_then(|tokens| tokens.give(reply));
        let jetstream = Delivered::parse(reply).map(|delivered| FromStream {
            stream: delivered.stream,
            seq: delivered.seq,
            time: delivered.time,
            delivered: delivered.delivered,
            pending: delivered.pending,
            ack: token.as_deref(),
        });
        let envelope = Envelope {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            encoding: Encoding::Auto,
            jetstream,
        };
        envelope.write(out);
    }
}

/// A part of the answer, and how many messages have been written when it has.
struct Frame {
    data: Bytes,
    messages: usize,
}

/// All messages, as frames of `{"messages":[…]}`.
async fn collect(
    fetching: &mut Fetching,
    writer: &Writer,
    first: Option<Inbound>,
) -> Result<VecDeque<Frame>, Problem> {
    let mut frames = VecDeque::new();
    let mut data = b"{\"messages\":[".to_vec();
    let (mut messages, mut is_first) = (0, true);
    let mut next = first;
    while let Some(message) = next {
        let before = data.len();
        if !std::mem::take(&mut is_first) {
            data.push(b',');
        }
        writer.write(&message, &mut data);
        drop(message);
        if !fetching.wrote(data.len() - before)? {
            data.truncate(before);
            break;
        }
        messages += 1;
        if data.len() >= FRAME_BYTES {
            let data = std::mem::take(&mut data).into();
            frames.push_back(Frame { data, messages });
            messages = 0;
        }
        next = fetching.next().await?;
    }
    data.extend_from_slice(b"]}");
    let data = data.into();
    frames.push_back(Frame { data, messages });
    Ok(frames)
}

type Io = std::convert::Infallible;

/// The next frame is asked for when there is room for it: those before it are on their way.
fn written_one_by_one(fetching: Fetching, frames: VecDeque<Frame>) -> Body {
    if let (1, Some(only)) = (frames.len(), frames.front())
        && only.messages == 0
    {
        return Body::from(only.data.clone());
    }
    let state = (fetching, frames, 0);
    Body::from_stream(futures_util::stream::unfold(
        state,
        |(mut fetching, mut frames, written)| async move {
            fetching.held().written(written);
            let Frame { data, messages } = frames.pop_front()?;
            Some((Ok::<_, Io>(data), (fetching, frames, messages)))
        },
    ))
}

/// Each message as a line, as it arrives; the last says why nothing follows, where a reader could not
/// know.
fn lines(fetching: Fetching, writer: Writer, first: Option<Bytes>) -> Body {
    let state = first.map(|first| (fetching, writer, Some(first)));
    Body::from_stream(futures_util::stream::unfold(state, |state| async {
        let (mut fetching, writer, first) = state?;
        let line = match first {
            Some(line) => Some(line),
            None => {
                fetching.held().written(1);
                next_line(&mut fetching, &writer).await
            }
        };
        if let Some(line) = line {
            return Some((Ok::<_, Io>(line), Some((fetching, writer, None))));
        }
        let mut line = Vec::new();
        Notice::End(fetching.end_reason()?).write(&mut line);
        line.push(b'\n');
        Some((Ok(line.into()), None))
    }))
}

async fn next_line(fetching: &mut Fetching, writer: &Writer) -> Option<Bytes> {
    let message = fetching.next().await.ok()??;
    line(fetching, writer, &message).ok()?
}

/// The last message as a line; nothing where there is no room for it, which is a problem if there is no
/// other.
fn line(
    fetching: &mut Fetching,
    writer: &Writer,
    message: &Inbound,
) -> Result<Option<Bytes>, Problem> {
    let mut line = Vec::new();
    writer.write(message, &mut line);
    line.push(b'\n');
    let fits = fetching.wrote(line.len())?;
    Ok(fits.then(|| line.into()))
}

fn respond(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
