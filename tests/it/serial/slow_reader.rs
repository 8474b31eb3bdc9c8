//! One reader that stops reading among many: nobody else notices, and it is told what it lost.

use std::time::Duration;

use crate::harness::{Bridge, Nats, SOON, round_trip, soak, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_loses_the_oldest_and_nobody_else_loses_anything() {
    let (readers, rate_hz) = (soak(50, 1000), soak(200, 1000));
    let messages: u64 = soak(8_000, 60_000);
    let nats = Nats::start().await;
    // A client that takes nothing for two keep-alives counts as vanished, and this one is only slow.
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 120s }").await;
    let mut stalled = bridge.sse("/v1/subscribe/ticks").await.expect_ok();
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..readers {
        let mut reader = bridge.sse("/v1/subscribe/ticks").await.expect_ok();
        reading.spawn(async move {
            for expected in 0..messages {
                let event = reader.event().await.expect("the stream goes on");
                assert_eq!(
                    event.event, None,
                    "no gap for a reader that reads: {event:?}"
                );
                assert_eq!(event.json()["data"]["n"], expected);
            }
        });
    }
    let before = bridge.rss_bytes();
    let client = nats.client().await;
    let filler = "x".repeat(2000);
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for n in 0..messages {
        if n % (rate_hz / 100) == 0 {
            ticks.tick().await;
        }
        let payload = format!("{{\"n\":{n},\"filler\":\"{filler}\"}}");
        client.publish("ticks", payload.into()).await.unwrap();
    }
    round_trip(&client).await;
    within(SOON, "the readers have read everything", async {
        while let Some(done) = reading.join_next().await {
            done.expect("a reader that reads loses nothing");
        }
    })
    .await;
    let grown = bridge.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < messages {
        let event = within(SOON, "the stalled reader goes on", stalled.event())
            .await
            .expect("it goes on");
        match event.event.as_deref() {
            None => seen += 1,
            Some("gap") => {
                assert_eq!(event.json()["reason"], "slow-client");
                dropped += event.json()["dropped"].as_u64().expect("a number");
            }
            Some(other) => panic!("{other}"),
        }
    }
    assert_eq!(seen + dropped, messages);
    assert!(dropped > 0, "it was stalled long enough to lose something");
}
