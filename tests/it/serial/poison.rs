//! What other publishers may send: natsway serves on, and tells its readers of the gap.

use std::time::Duration;

use crate::harness::{Bridge, Nats, SOON, eventually, soak};

/// Header blocks and subjects that async-nats cannot take.
const POISON: &[(&str, &str, &[u8])] = &[
    (
        "a lone CR in a value",
        "poison.a",
        b"NATS/1.0\r\nA: b\rc\r\n\r\n",
    ),
    (
        "bytes that are not UTF-8",
        "poison.b",
        b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
    ),
    (
        "a line without a colon",
        "poison.c",
        b"NATS/1.0\r\nnothing\r\n\r\n",
    ),
    (
        "a Unicode space in the subject",
        "poison.d\u{a0}e",
        b"NATS/1.0\r\nA: b\r\n\r\n",
    ),
    (
        "a vertical tab in the subject",
        "poison.f\u{b}g",
        b"NATS/1.0\r\nA: b\r\n\r\n",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_from_other_publishers_is_survived() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let _victim = bridge.sse("/v1/subscribe/poison.%3E").await.expect_ok();
    let mut others = Vec::new();
    for i in 0..soak(20, 100) {
        others.push(
            bridge
                .sse(&format!("/v1/subscribe/calm.{i}"))
                .await
                .expect_ok(),
        );
    }
    let mut raw = nats.raw().await;
    let mut gaps = 0;
    for (what, subject, headers) in POISON {
        let lost = bridge
            .metric(
                "natsway_nats_disconnects_total",
                &[("link", "subscriptions")],
            )
            .await;
        raw.publish_headers(subject, "", headers, b"x").await;
        raw.flush().await;
        eventually(SOON, "the connection broke", async || {
            bridge
                .metric(
                    "natsway_nats_disconnects_total",
                    &[("link", "subscriptions")],
                )
                .await
                > lost
        })
        .await;
        gaps += 1;
        let broke = tokio::time::Instant::now();
        bridge.is_connected().await;
        let served = bridge
            .post("/v1/publish/calm.0")
            .body("still here")
            .send()
            .await;
        served.expect(204);
        assert!(
            broke.elapsed() < Duration::from_secs(3),
            "{what}: {:?}",
            broke.elapsed()
        );
    }
    for reader in &mut others {
        let mut seen = 0;
        while seen < gaps {
            let event = reader.event().await.expect("the stream goes on");
            if event.event.as_deref() == Some("gap") {
                assert_eq!(event.json()["reason"], "reconnected");
                seen += 1;
            }
        }
    }
    assert!(bridge.exited().is_none());
}
