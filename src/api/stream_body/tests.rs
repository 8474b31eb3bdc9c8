use std::collections::VecDeque;

use http_body::Body as _;
use tokio::time::advance;

use super::*;
use crate::api::notice::Gap;
use crate::lifecycle::Lifecycle;
use crate::telemetry::metrics::Metrics;

/// Items that are there, and for ever nothing after them.
struct Ready(VecDeque<Item>);

impl Feed for Ready {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Item> {
        self.0.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

fn body(
    items: impl IntoIterator<Item = Item>,
    lifecycle: &Lifecycle,
) -> Pin<Box<StreamBody<Ready>>> {
    let lifetimes = Lifetimes {
        lag: Metrics::new().stream_lag("test"),
        tracer: None,
        keep_alive: Duration::from_secs(15),
        max_age: Some(Duration::from_secs(60)),
        drain: lifecycle.drain(),
        ends: crate::telemetry::metrics::StreamEnds::default(),
    };
    let feed = Ready(items.into_iter().collect());
    Box::pin(StreamBody::new(feed, Form::Ndjson, &lifetimes))
}

fn message(bytes: impl Into<Bytes>) -> Item {
    Item::Message(bytes.into())
}

async fn chunk(body: &mut Pin<Box<StreamBody<Ready>>>) -> Option<Bytes> {
    std::future::poll_fn(|cx| body.as_mut().poll_frame(cx))
        .await
        .map(|frame| frame.unwrap().into_data().unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_goes_out_in_one_chunk_and_what_is_alone_is_not_copied() {
    let lifecycle = Lifecycle::new();
    let alone = Bytes::from_static(b"{\"n\":1}\n");
    let mut one = body([message(alone.clone())], &lifecycle);
    assert_eq!(chunk(&mut one).await.unwrap().as_ptr(), alone.as_ptr());
    let gap = Item::Notice(Notice::Gap(Gap::unknown("reconnected")));
    let mut three = body([message("a\n"), gap, message("b\n")], &lifecycle);
    assert_eq!(
        chunk(&mut three).await.unwrap(),
        "a\n{\"notice\":\"gap\",\"dropped\":null,\"reason\":\"reconnected\"}\nb\n"
    );
}

#[tokio::test(start_paused = true)]
async fn no_chunk_is_larger_than_it_may_be_unless_one_message_is() {
    let lifecycle = Lifecycle::new();
    let sizes = [1, CHUNK_BYTES - 1, 1, 3 * CHUNK_BYTES, 10, 10];
    let mut body = body(sizes.map(|size| message(vec![b'x'; size])), &lifecycle);
    for expected in [CHUNK_BYTES, 1, 3 * CHUNK_BYTES, 20] {
        assert_eq!(chunk(&mut body).await.unwrap().len(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_fit_goes_out_before_the_end() {
    let lifecycle = Lifecycle::new();
    let large = || message(vec![b'x'; CHUNK_BYTES - 10]);
    let mut body = body([large(), message("the last one\n"), large()], &lifecycle);
    assert_eq!(chunk(&mut body).await.unwrap().len(), CHUNK_BYTES - 10);
    lifecycle.start_draining();
    let last = chunk(&mut body).await.unwrap();
    assert!(
        last.starts_with(b"the last one\n{\"notice\":\"end\""),
        "{last:?}"
    );
    assert_eq!(chunk(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gives_signs_of_life_and_ends_of_age() {
    let lifecycle = Lifecycle::new();
    let mut body = body([message("a\n")], &lifecycle);
    let start = Instant::now();
    assert_eq!(chunk(&mut body).await.unwrap(), "a\n");
    let mut signs = 0;
    let last = loop {
        let chunk = chunk(&mut body).await.unwrap();
        if chunk != " " {
            break chunk;
        }
        signs += 1;
        assert_eq!(start.elapsed().as_secs(), signs * 15);
    };
    assert_eq!(last, "{\"notice\":\"end\",\"reason\":\"max-age\"}\n");
    assert!((48..=60).contains(&start.elapsed().as_secs()));
    assert!(body.is_end_stream());
    assert_eq!(chunk(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_counts_from_the_last_write() {
    let lifecycle = Lifecycle::new();
    let mut body = body([], &lifecycle);
    advance(Duration::from_secs(10)).await;
    body.as_mut().project().feed.0.push_back(message("a\n"));
    assert_eq!(chunk(&mut body).await.unwrap(), "a\n");
    let written = Instant::now();
    assert_eq!(chunk(&mut body).await.unwrap(), " ");
    assert_eq!(written.elapsed(), Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn draining_ends_a_stream_that_is_never_silent() {
    let lifecycle = Lifecycle::new();
    let many = (0..100).map(|_| message(vec![b'x'; CHUNK_BYTES]));
    let mut body = body(many, &lifecycle);
    assert_eq!(chunk(&mut body).await.unwrap().len(), CHUNK_BYTES);
    lifecycle.start_draining();
    let last = chunk(&mut body).await.unwrap();
    assert_eq!(last, "{\"notice\":\"end\",\"reason\":\"draining\"}\n");
    assert_eq!(chunk(&mut body).await, None);
}
