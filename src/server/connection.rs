//! Serves one connection, HTTP/1.1 or HTTP/2 with prior knowledge, and watches its clock.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Request, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFuture;

use super::Serve;
use super::io::{Socket, Stream};
use super::pace::{Pace, Protocol, Timers};
use crate::layers::context;
use crate::layers::peer::Peer;
use crate::layers::received::Received;
use crate::lifecycle::Drain;
use crate::telemetry::metrics::Rejections;
use crate::wake::Deadlines;

/// What every connection of a server has in common.
pub(super) struct Shared<S> {
    pub(super) http: Http,
    pub(super) timers: Arc<ArcSwap<Timers>>,
    pub(super) drain: Drain,
    pub(super) rejections: Rejections,
    pub(super) service: S,
}

/// How long an idle HTTP/1.1 connection stays open after the drain began: a client that is just
/// sending its next request gets an answer with `Connection: close` instead of a reset.
const LINGER: Duration = Duration::from_millis(500);

/// How long a connection that was told to finish may take to close.
const FINISH: Duration = Duration::from_secs(1);

/// The two protocols, told apart by our own reading of the first bytes: hyper-util's detection keeps
/// room for both in every connection, 8 KiB more than HTTP/1.1 needs.
pub(super) struct Http {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Http {
    /// The parser's limits: a head of 16 KiB and hyper's 100 headers, more than the 64 that are mapped
    /// into a message, so that the 65th is answered with a problem. 256 streams a connection, because
    /// an HTTP/2 client multiplexes its subscriptions; a ping finds a vanished peer within two
    /// keep-alives. The windows bound what a client can make natsway hold before anybody asked for it.
    pub(super) fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(16 * 1024);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(16 * 1024)
            .max_concurrent_streams(256)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .max_send_buf_size(64 * 1024);
        Self { http1, http2 }
    }

    fn http2(&self, keep_alive: Duration) -> http2::Builder<TokioExecutor> {
        let mut http2 = self.http2.clone();
        http2
            .keep_alive_interval(keep_alive)
            .keep_alive_timeout(keep_alive);
        http2
    }
}

pub(super) async fn serve<S: Serve, K: Unpin + Send + 'static>(
    shared: Arc<Shared<S>>,
    socket: Socket,
    peer: Peer,
    kept: K,
) {
    let timers = **shared.timers.load();
    socket.prepare(timers.write_stall());
    let pace = Arc::new(Pace::new(timers, shared.drain.clone()));
    let service = Connected {
        service: shared.service.clone(),
        peer: Arc::new(peer),
        pace: Arc::clone(&pace),
    };
    let mut stream = Stream::new(socket, Arc::clone(&pace), kept);
    let mut clock = pin!(Clock::new(&pace, &shared.drain, &shared.rejections));
    let protocol = poll_fn(|cx| poll_protocol(&mut stream, clock.as_mut(), cx)).await;
    let io = TokioIo::new(stream);
    match protocol {
        None => {}
        Some(Protocol::Http1) => {
            let connection = shared.http.http1.serve_connection(io, service);
            let connection = pin!(connection.with_upgrades());
            let error = drive(connection, clock, |it| it.graceful_shutdown()).await;
            match error {
                Some(error) if error.is_parse_too_large() => shared.rejections.too_large.inc(),
                Some(error) if error.is_parse() => shared.rejections.malformed.inc(),
                Some(_) | None => 0,
            };
        }
        Some(Protocol::Http2) => {
            // Boxed, so that a connection of HTTP/1.1 has no room for it.
            let http2 = shared.http.http2(timers.keep_alive);
            let mut connection = Box::pin(http2.serve_connection(io, service));
            drive(connection.as_mut(), clock, |it| it.graceful_shutdown()).await;
        }
    }
}

/// What the first bytes tell; none if the clock ran out or the connection broke before.
fn poll_protocol<K>(
    stream: &mut Stream<K>,
    mut clock: Pin<&mut Clock<'_>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Protocol>> {
    if let Poll::Ready(told) = stream.poll_protocol(cx) {
        return Poll::Ready(told.ok());
    }
    clock.as_mut().poll_drain(cx);
    // No request waits yet.
    clock.poll_verdict(cx).map(|_| None)
}

/// Drives a connection to its end, or to the end of its clock's patience.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    mut clock: Pin<&mut Clock<'_>>,
    finish: impl Fn(Pin<&mut C>),
) -> Option<hyper::Error> {
    poll_fn(|cx| {
        loop {
            // What hyper reports here is the client's own protocol error or a lost connection; it has
            // answered what can be answered.
            let polled = clock.as_mut().round(cx, |cx| connection.as_mut().poll(cx));
            if let Poll::Ready(ended) = polled {
                return Poll::Ready(ended.err());
            }
            if clock.as_mut().poll_drain(cx) {
                finish(connection.as_mut());
                continue;
            }
            match ready!(clock.as_mut().poll_verdict(cx)) {
                Verdict::Again => {}
                Verdict::Finish => finish(connection.as_mut()),
                Verdict::Close => return Poll::Ready(None),
            }
        }
    })
    .await
}

enum Verdict {
    /// A request's deadline has come.
    Again,
    /// The silence lasted too long: close as the protocol wants it.
    Finish,
    /// It did not close in time, or a write is stuck.
    Close,
}

pin_project! {
    /// One timer a connection, moved only when it fires too early or a deadline comes nearer. Under
    /// load nothing is moved: a request costs two atomic stores and a comparison, not a timer. A deadline that
    /// was met fires all the same, for one more look in each span of a timeout.
    struct Clock<'a> {
        #[pin]
        sleep: Sleep,
        is_set: bool,
        // First of new work, then of the grace.
        #[pin]
        end: WaitForCancellationFuture<'a>,
        drain: &'a Drain,
        pace: &'a Pace,
        ends_seen: u8,
        waits: bool,
        rejections: &'a Rejections,
        // When it has to be closed, where it was told to finish.
        finish_by: Option<Instant>,
        requests: Deadlines,
    }
}

impl<'a> Clock<'a> {
    fn new(pace: &'a Pace, drain: &'a Drain, rejections: &'a Rejections) -> Self {
        let first = pace
            .deadline()
            .unwrap_or_else(|| Instant::now() + pace.recheck());
        Self {
            sleep: sleep_until(first),
            is_set: false,
            end: drain.draining(),
            drain,
            pace,
            ends_seen: 0,
            waits: false,
            rejections,
            finish_by: None,
            requests: Deadlines::default(),
        }
    }

    /// Whether the connection is to finish what it does: the drain has just begun, or its grace is
    /// just over and requests that still wait are to be polled once more. An idle one is left a moment.
    fn poll_drain(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        // Whoever waits already is woken; to ask again would be a lock for every request.
        if *this.waits && this.drain.ends_begun() == *this.ends_seen {
            return false;
        }
        *this.waits = true;
        let mut finishes = false;
        while *this.ends_seen < 2 && this.end.as_mut().poll(cx).is_ready() {
            *this.ends_seen += 1;
            this.end.set(this.drain.expired());
            match this.pace.is_busy() || this.pace.is_http2() {
                true => finishes = true,
                false => this.pace.hurry(LINGER),
            }
        }
        finishes
    }

    /// Polls the connection, and collects by when its requests have to be polled again.
    fn round<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        self.project().requests.round(cx, poll)
    }

    fn poll_verdict(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            let next = self.next();
            let mut this = self.as_mut().project();
            if let Some(next) = next
                && next < this.sleep.deadline()
            {
                this.sleep.as_mut().reset(next);
                *this.is_set = false;
            }
            // As above: a timer that is set needs no second look until it has fired.
            if *this.is_set && !this.sleep.is_elapsed() {
                return Poll::Pending;
            }
            *this.is_set = true;
            // Whatever else this turn has done: a timer that is not set is not looked at again.
            ready!(pin!(unconstrained(this.sleep.as_mut())).poll(cx));
            *this.is_set = false;
            let now = Instant::now();
            let verdict = self.as_mut().judge(now);
            let next = self.next().unwrap_or_else(|| now + self.pace.recheck());
            self.as_mut().project().sleep.reset(next);
            if let Some(verdict) = verdict {
                return Poll::Ready(verdict);
            }
        }
    }

    /// When something is to be done, as far as anybody knows now.
    fn next(&self) -> Option<Instant> {
        let own = self.finish_by.or_else(|| self.pace.deadline());
        match (own, self.requests.nearest()) {
            (Some(own), Some(request)) => Some(own.min(request)),
            (own, request) => own.or(request),
        }
    }

    fn judge(self: Pin<&mut Self>, now: Instant) -> Option<Verdict> {
        let this = self.project();
        let pace = *this.pace;
        if this.requests.look(now) {
            return Some(Verdict::Again);
        }
        // A request may have slipped in while the connection was told to finish.
        let late = this.finish_by.take_if(|by| *by <= now).is_some() && !pace.is_busy();
        if late || pace.is_stalled() {
            return Some(Verdict::Close);
        }
        if this.finish_by.is_some() || pace.deadline().is_none_or(|deadline| deadline > now) {
            return None;
        }
        if *this.ends_seen == 0 && pace.waits_for_head() {
            this.rejections.header_timeout.inc();
        }
        *this.finish_by = Some(now + FINISH);
        Some(Verdict::Finish)
    }
}

/// The service of one connection: counts the request, and says where it came from.
struct Connected<S> {
    service: S,
    /// Of the connection, like the pace: what all connections share would pass between the cores with
    /// every request.
    peer: Arc<Peer>,
    pace: Arc<Pace>,
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Connected<S> {
    type Response = http::Response<Counted>;
    type Error = Infallible;
    type Future = Answer<S::Answer>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let busy = Busy::new(&self.pace);
        let http1 = request.version() < Version::HTTP_2;
        if request.extensions().get::<OnUpgrade>().is_some() {
            let pace = Arc::clone(&self.pace);
            let received = Received::new(move || pace.received());
            request.extensions_mut().insert(received);
        }
        let context = context::Context {
            peer: Some(Arc::clone(&self.peer)),
            // A request of HTTP/2 has a task of its own.
            is_polled_at_the_end: http1,
            ..context::Context::default()
        };
        let has_body = !request.body().is_end_stream();
        Answer {
            inner: self.service.answer(request, context),
            busy: Some(busy),
            has_body,
            http1,
        }
    }
}

pin_project! {
    struct Answer<F> {
        #[pin]
        inner: F,
        busy: Option<Busy>,
        has_body: bool,
        http1: bool,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<http::Response<Counted>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        let busy = this.busy.take();
        if let Some(Busy(pace)) = &busy {
            // Clients move to another replica between two requests, not in the middle of one.
            if *this.http1 && pace.is_leaving() && !is_upgrade(&response) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            if *this.has_body && response.status().as_u16() >= 400 {
                pace.refuse();
            }
        }
        Poll::Ready(Ok(response.map(|body| Counted { body, _busy: busy })))
    }
}

fn is_upgrade(response: &Response) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

/// A request in flight, from its head to the end of its answer.
struct Busy(Arc<Pace>);

impl Busy {
    fn new(pace: &Arc<Pace>) -> Self {
        pace.begin();
        Self(Arc::clone(pace))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An answer's body; the connection is busy until it was taken over.
pub(super) struct Counted {
    body: Body,
    _busy: Option<Busy>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
