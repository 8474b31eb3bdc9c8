//! The largest message, exact to the byte.

use bytes::Bytes;
use futures_util::stream;

use crate::harness::{Bridge, Calm, Nats};

const LIMIT: usize = 10_000;

async fn start() -> (Nats, Bridge) {
    let config = format!("max_payload: {LIMIT}");
    let nats = Nats::builder().config(&config).start().await;
    let bridge = Bridge::start(&nats, "").await;
    (nats, bridge)
}

/// The same bytes without a Content-Length.
fn chunked(bytes: usize) -> reqwest::Body {
    let half = Bytes::from(vec![b'x'; bytes / 2]);
    let rest = Bytes::from(vec![b'x'; bytes - bytes / 2]);
    reqwest::Body::wrap_stream(stream::iter([half, rest].map(Ok::<_, std::io::Error>)))
}

/// Every way for one message, and what it answers to a message that may go.
const WAYS: [(&str, u16); 4] = [
    ("/v1/publish/a?confirm=none", 202),
    ("/v1/publish/a?confirm=server", 204),
    ("/v1/publish/s?confirm=stream", 200),
    ("/v1/request/nobody", 503),
];

#[tokio::test]
async fn the_limit_is_exact_with_and_without_a_declared_length() {
    let (nats, bridge) = start().await;
    nats.stream("S", &["s"], serde_json::json!({})).await;
    let calm = Calm::before(&nats, &bridge).await;
    for (path, fine) in WAYS {
        let send = |body: reqwest::Body| bridge.post(path).body(body).send();
        for (bytes, fits) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
            for body in [vec![b'x'; bytes].into(), chunked(bytes)] {
                let answer = send(body).await;
                if fits {
                    answer.expect(fine);
                    continue;
                }
                let problem = answer.expect_problem(413, "payload-too-large");
                assert_eq!(problem["limit"], LIMIT);
                assert_eq!(problem["outcome"], "not_sent");
            }
        }
    }
    calm.holds().await;
}

#[tokio::test]
async fn headers_count() {
    let (nats, bridge) = start().await;
    nats.stream("S", &["s"], serde_json::json!({})).await;
    let calm = Calm::before(&nats, &bridge).await;
    // NATS/1.0 CR LF, then the header with its CR LF, then CR LF.
    let block = "NATS/1.0\r\nOrder-Id: 7\r\n\r\n".len();
    for (path, fine) in WAYS {
        let send = |body: reqwest::Body| {
            let request = bridge.post(path).header("natsh-order-id", "7");
            request.body(body).send()
        };
        for body in [vec![b'x'; LIMIT - block].into(), chunked(LIMIT - block)] {
            send(body).await.expect(fine);
        }
        for body in [
            vec![b'x'; LIMIT - block + 1].into(),
            chunked(LIMIT - block + 1),
        ] {
            send(body).await.expect_problem(413, "payload-too-large");
        }
    }
    calm.holds().await;
}

#[tokio::test]
async fn the_limit_follows_the_server() {
    let (nats, bridge) = start().await;
    let send = |bytes: usize| bridge.post("/v1/publish/a").body(vec![b'x'; bytes]).send();
    send(LIMIT).await.expect(204);
    nats.reload("max_payload: 5000").await;
    crate::harness::eventually(crate::harness::SOON, "the new limit holds", async || {
        send(5001).await.status == 413
    })
    .await;
    send(5000).await.expect(204);
}
