//! The stream of a feed over a WebSocket.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::time::{Instant, timeout};

use super::{CLOSING, Received, Socket, WRITE_BYTES};
use crate::api::notice::{CLOSE_GAP, EndReason, Notice};
use crate::api::stream_body::{Clock, Feed, Item, Tick};

enum Step {
    Tick(Tick),
    Received(Received),
    Item(Item),
}

fn poll_step<F: Feed>(
    socket: &mut Socket,
    feed: &mut F,
    clock: &mut Clock,
    cx: &mut Context<'_>,
) -> Poll<Step> {
    let tick = clock.poll_tick(cx);
    if let Poll::Ready(tick @ Tick::End(_)) = tick {
        return Poll::Ready(Step::Tick(tick));
    }
    // Before a sign of life is missed, which may have come.
    if let Poll::Ready(received) = socket.poll_receive(cx) {
        return Poll::Ready(Step::Received(received));
    }
    if let Poll::Ready(tick) = tick {
        return Poll::Ready(Step::Tick(tick));
    }
    feed.poll_next(cx).map(Step::Item)
}

/// Sends what the feed has until one side ends.
pub(super) async fn run<F: Feed>(mut socket: Socket, mut feed: F, raw: bool, mut clock: Clock) {
    let mut unwritten = 0;
    loop {
        let mut step =
            poll_fn(|cx| Poll::Ready(poll_step(&mut socket, &mut feed, &mut clock, cx))).await;
        if step.is_pending() {
            if socket.flush().await.is_err() {
                return;
            }
            unwritten = 0;
            feed.written(true, Instant::now());
            let next = poll_fn(|cx| poll_step(&mut socket, &mut feed, &mut clock, cx));
            step = Poll::Ready(next.await);
        }
        let Poll::Ready(step) = step else { return };
        let sent = match step {
            Step::Tick(Tick::KeepAlive) if socket.is_silent() => {
                clock.ends_because(EndReason::SlowClient);
                // Nothing but what the kernel takes at once: there may be nobody.
                let end = end(socket, EndReason::SlowClient, raw);
                return timeout(CLOSING, end).await.unwrap_or_default();
            }
            Step::Tick(Tick::KeepAlive) => socket.ping().await,
            Step::Tick(Tick::End(reason)) | Step::Item(Item::Notice(Notice::End(reason))) => {
                clock.ends_because(reason);
                return end(socket, reason, raw).await;
            }
            Step::Received(Received::End(code)) => return socket.end(code).await,
            Step::Received(Received::Text(_) | Received::Binary) => Ok(()),
            Step::Item(Item::Message(bytes)) => {
                unwritten += bytes.len();
                let sent = socket.send(bytes).await;
                // A socket that is never silent is never flushed from here, but writes all the same.
                if unwritten >= WRITE_BYTES {
                    unwritten = 0;
                    feed.written(true, Instant::now());
                }
                feed.taken();
                sent
            }
            Step::Item(Item::Notice(Notice::Gap(gap))) if raw => {
                clock.ends_for("gap");
                return socket.close(CLOSE_GAP, gap.reason).await;
            }
            Step::Item(Item::Notice(notice)) => {
                let mut json = Vec::new();
                notice.write(&mut json);
                socket.send(json.into()).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn end(mut socket: Socket, reason: EndReason, raw: bool) {
    if !raw {
        let mut json = Vec::new();
        Notice::End(reason).write(&mut json);
        if socket.send(json.into()).await.is_err() {
            return;
        }
    }
    socket.close(reason.close_code(), reason.as_str()).await;
}
