//! Serves one connection, HTTP/1.1 or HTTP/2 with prior knowledge, and watches its clock.

mod clock;
mod requests;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::Serve;
use super::io::{Socket, Stream};
use super::pace::{Pace, Protocol, Timers};
use crate::layers::peer::Peer;
use crate::lifecycle::Drain;
use crate::telemetry::metrics::Rejections;
use clock::{Clock, Verdict};
use requests::Connected;

/// What every connection of a server has in common.
pub(super) struct Shared<S> {
    pub(super) http: Http,
    pub(super) timers: Arc<ArcSwap<Timers>>,
    pub(super) drain: Drain,
    pub(super) rejections: Rejections,
    pub(super) service: S,
}

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
            // The drain may have come before anybody knew that there is something to be told.
            if shared.drain.is_draining() {
                connection.as_mut().graceful_shutdown();
            }
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
