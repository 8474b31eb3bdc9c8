//! The body of a stream: pulled by the connection only as fast as its client reads.
//!
//! Nothing is queued here. What waits for a slow client waits in the ring of its subject, where a
//! limit holds it; here lies at most one chunk on its way to the socket.

mod clock;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::deliveries::Deliveries;
use super::notice::Notice;
use super::{ndjson, sse};
use crate::lifecycle::Drain;
use crate::telemetry::metrics::{StreamEnds, StreamLag};
use crate::telemetry::traces::Tracer;

pub use clock::{Clock, Tick};

/// What is ready goes out in chunks of this size: many small messages in one write, and no more than
/// this held for a client that has stopped reading. hyper holds as much again.
const CHUNK_BYTES: usize = 16 * 1024;

/// One thing that comes out of a [`Feed`].
#[derive(Clone, Debug)]
pub enum Item {
    /// A message, encoded for the stream's form.
    Message(Bytes),
    /// A gap or the end.
    Notice(Notice),
}

/// Where a stream comes from.
pub trait Feed: Send + Unpin + 'static {
    /// The next item, or the task is woken when there is one. Not called after an end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item>;

    /// What was given out is written now; all of it, or all but the last item.
    fn written(&mut self, _all: bool, _now: Instant) {}

    /// What was written was taken, so that there is room for more.
    fn taken(&mut self) {}

    /// Appends what the stream begins with.
    fn write_first(&mut self, _out: &mut Vec<u8>) {}

    /// Appends the sign of life of a silent stream.
    fn write_keep_alive(&mut self, form: Form, out: &mut Vec<u8>) {
        form.write_keep_alive(out);
    }
}

/// A form of an HTTP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events.
    Sse,
    /// One JSON object a line.
    Ndjson,
}

impl Form {
    /// The media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Sse => sse::CONTENT_TYPE,
            Self::Ndjson => ndjson::CONTENT_TYPE,
        }
    }

    /// Appends a sign of life.
    pub fn write_keep_alive(self, out: &mut Vec<u8>) {
        match self {
            Self::Sse => sse::write_keep_alive(out),
            Self::Ndjson => ndjson::write_keep_alive(out),
        }
    }

    fn write_notice(self, notice: &Notice, out: &mut Vec<u8>) {
        match self {
            Self::Sse => sse::write_notice(notice, out),
            Self::Ndjson => ndjson::write_notice(notice, out),
        }
    }
}

/// What all streams have in common.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// How often a silent stream gives a sign of life.
    pub keep_alive: Duration,
    /// How long a stream may last.
    pub max_age: Option<Duration>,
    /// When all streams end.
    pub drain: Drain,
    /// Where ends are counted.
    pub ends: StreamEnds,
    /// How late messages are.
    pub lag: StreamLag,
    /// What decides which deliveries are traced.
    pub tracer: Option<Tracer>,
}

impl Lifetimes {
    /// What watches over the messages of one reader.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        Deliveries::new(self.tracer.clone(), self.lag.clone())
    }

    /// The clock of one stream, from now on.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::begin(self)
    }
}

pin_project! {
    /// The body: items of a feed in a form, until the end.
    pub struct StreamBody<F> {
        feed: F,
        form: Form,
        clock: Clock,
        begun: bool,
        ended: bool,
        next: Option<Item>,
    }
}

impl<F> std::fmt::Debug for StreamBody<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody").finish_non_exhaustive()
    }
}

impl<F: Feed> StreamBody<F> {
    /// A body that begins now.
    #[must_use]
    pub fn new(feed: F, form: Form, lifetimes: &Lifetimes) -> Self {
        Self {
            feed,
            form,
            clock: lifetimes.clock(),
            begun: false,
            ended: false,
            next: None,
        }
    }

    fn poll_chunk(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        // Whoever asks for more has taken what there was; what was put back has not gone out yet.
        if this.next.is_none() {
            this.feed.taken();
        }
        let mut chunk = Chunk::default();
        if !std::mem::replace(this.begun, true) {
            this.feed.write_first(chunk.writer());
        }
        // Once a chunk, whatever is ready: a stream that is never silent must end, too.
        let (mut is_silent, mut end) = (false, None);
        while let Poll::Ready(tick) = this.clock.poll_tick(cx) {
            match tick {
                Tick::KeepAlive => is_silent = true,
                Tick::End(reason) => {
                    end = Some(Item::Notice(Notice::End(reason)));
                    break;
                }
            }
        }
        while !*this.ended && chunk.len() < CHUNK_BYTES {
            // What was taken from the feed before goes out before the end.
            let item = match this.next.take().or_else(|| end.take()) {
                Some(item) => item,
                None => match this.feed.poll_next(cx) {
                    Poll::Ready(item) => item,
                    Poll::Pending => break,
                },
            };
            match item {
                Item::Message(message) if !chunk.takes(message.len()) => {
                    *this.next = Some(Item::Message(message));
                    break;
                }
                Item::Message(message) => chunk.push(message),
                Item::Notice(notice) => {
                    if let Notice::End(reason) = notice {
                        *this.ended = true;
                        this.clock.ends_because(reason);
                    }
                    this.form.write_notice(&notice, chunk.writer());
                }
            }
        }
        if chunk.len() == 0 && is_silent {
            this.feed.write_keep_alive(*this.form, chunk.writer());
        }
        if chunk.len() == 0 {
            return Poll::Pending;
        }
        let now = Instant::now();
        this.clock.wrote(now);
        this.feed.written(this.next.is_none(), now);
        Poll::Ready(Some(chunk.finish()))
    }
}

/// What goes out in one write.
#[derive(Default)]
struct Chunk {
    /// A message that is alone so far goes out as it lies in the ring, for all readers.
    alone: Option<Bytes>,
    gathered: Vec<u8>,
}

impl Chunk {
    fn len(&self) -> usize {
        self.alone.as_ref().map_or(self.gathered.len(), Bytes::len)
    }

    fn takes(&self, more_bytes: usize) -> bool {
        self.len() == 0 || self.len() + more_bytes <= CHUNK_BYTES
    }

    fn push(&mut self, message: Bytes) {
        if self.len() == 0 {
            self.alone = Some(message);
        } else {
            self.writer().extend_from_slice(&message);
        }
    }

    fn writer(&mut self) -> &mut Vec<u8> {
        if let Some(alone) = self.alone.take() {
            self.gathered.extend_from_slice(&alone);
        }
        &mut self.gathered
    }

    fn finish(self) -> Bytes {
        self.alone.unwrap_or_else(|| self.gathered.into())
    }
}

impl<F: Feed> http_body::Body for StreamBody<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_chunk(cx)
            .map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests;
