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
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Serve;
use super::io::{Socket, Stream};
use super::pace::{Pace, Timers};
use crate::layers::peer::Peer;
use crate::lifecycle::Drain;

/// What every connection of a server has in common.
pub(super) struct Shared<S> {
    pub(super) http: auto::Builder<TokioExecutor>,
    pub(super) timers: Arc<ArcSwap<Timers>>,
    pub(super) drain: Drain,
    pub(super) service: S,
}

/// How long an idle HTTP/1.1 connection stays open after the drain began: a client that is just
/// sending its next request gets an answer with `Connection: close` instead of a reset.
const LINGER: Duration = Duration::from_millis(500);

/// How long a connection that was told to finish may take to close.
const FINISH: Duration = Duration::from_secs(1);

/// The parser's limits: a head of 16 KiB and hyper's 100 headers, more than the 64 that are mapped
/// into a message, so that the 65th is answered with a problem. 256 streams a connection, because an
/// HTTP/2 client multiplexes its subscriptions; a ping finds a vanished peer within two keep-alives.
/// The windows bound what a client can make natsway hold before anybody has asked for it.
pub(super) fn http(keep_alive: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(16 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 * 1024)
        .max_concurrent_streams(256)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(keep_alive)
        .keep_alive_timeout(keep_alive);
    builder
}

pub(super) async fn serve<S: Serve, K: Unpin + Send + 'static>(
    shared: Arc<Shared<S>>,
    socket: Socket,
    peer: Peer,
    kept: K,
) {
    let pace = Arc::new(Pace::new(**shared.timers.load()));
    let service = Connected {
        service: shared.service.clone(),
        peer,
        pace: Arc::clone(&pace),
        drain: shared.drain.clone(),
    };
    let io = TokioIo::new(Stream::new(socket, Arc::clone(&pace), kept));
    let mut connection = pin!(shared.http.serve_connection_with_upgrades(io, service));
    let mut watch = pin!(Watch::new(&pace));
    let mut draining = pin!(shared.drain.draining());
    let mut drain_seen = false;
    poll_fn(|cx| {
        loop {
            // What hyper reports here is the client's own protocol error or a lost connection; it has
            // answered what can be answered.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !drain_seen && draining.as_mut().poll(cx).is_ready() {
                drain_seen = true;
                if pace.is_busy() || pace.is_http2() {
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                pace.hurry(LINGER);
            }
            match ready!(watch.as_mut().poll_verdict(&pace, cx)) {
                Verdict::Finish => connection.as_mut().graceful_shutdown(),
                Verdict::Close => return Poll::Ready(()),
            }
        }
    })
    .await;
}

enum Verdict {
    /// The silence lasted too long: close as the protocol wants it.
    Finish,
    /// It did not close in time, or a write is stuck.
    Close,
}

pin_project! {
    /// One timer a connection, moved only when it fires too early or a deadline comes nearer. Under
    /// load nothing is moved: a request costs two atomic stores, not a timer.
    struct Watch {
        #[pin]
        sleep: Sleep,
        finishing: bool,
    }
}

impl Watch {
    fn new(pace: &Pace) -> Self {
        let first = pace
            .deadline()
            .unwrap_or_else(|| Instant::now() + pace.recheck());
        Self {
            sleep: sleep_until(first),
            finishing: false,
        }
    }

    fn poll_verdict(self: Pin<&mut Self>, pace: &Pace, cx: &mut Context<'_>) -> Poll<Verdict> {
        let mut this = self.project();
        loop {
            if !*this.finishing
                && let Some(deadline) = pace.deadline()
                && deadline < this.sleep.deadline()
            {
                this.sleep.as_mut().reset(deadline);
            }
            ready!(this.sleep.as_mut().poll(cx));
            // A request may have slipped in while the connection was told to finish.
            let late = std::mem::take(this.finishing) && !pace.is_busy();
            if late || pace.is_stalled() {
                return Poll::Ready(Verdict::Close);
            }
            let now = Instant::now();
            match pace.deadline() {
                Some(deadline) if deadline <= now => {
                    *this.finishing = true;
                    this.sleep.as_mut().reset(now + FINISH);
                    return Poll::Ready(Verdict::Finish);
                }
                Some(deadline) => this.sleep.as_mut().reset(deadline),
                None => this.sleep.as_mut().reset(now + pace.recheck()),
            }
        }
    }
}

/// The service of one connection: counts the request, and says where it came from.
struct Connected<S> {
    service: S,
    peer: Peer,
    pace: Arc<Pace>,
    drain: Drain,
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Connected<S> {
    type Response = http::Response<Counted>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let busy = Busy::new(&self.pace);
        request.extensions_mut().insert(self.peer.clone());
        let http1 = request.version() < Version::HTTP_2;
        let has_body = !request.body().is_end_stream();
        Answer {
            inner: self.service.clone().call(request),
            busy: Some(busy),
            has_body,
            leaving: http1.then(|| self.drain.clone()),
        }
    }
}

pin_project! {
    struct Answer<F> {
        #[pin]
        inner: F,
        busy: Option<Busy>,
        has_body: bool,
        leaving: Option<Drain>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<http::Response<Counted>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        // Clients move to another replica between two requests, not in the middle of one.
        if this.leaving.as_ref().is_some_and(Drain::is_leaving) && !is_upgrade(&response) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        let busy = this.busy.take();
        if *this.has_body
            && response.status().as_u16() >= 400
            && let Some(busy) = &busy
        {
            busy.0.refuse();
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
