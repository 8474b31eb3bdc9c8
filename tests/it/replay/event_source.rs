//! A client that does what a browser's `EventSource` does, and nothing else: it keeps the last id and
//! shows it when it comes back.

use std::time::Duration;

use rand::Rng as _;
use serde_json::json;

use super::{fill, path, server};
use crate::harness::client::Opened;
use crate::harness::sse::Block;
use crate::harness::{Bridge, soak};

pub(super) struct EventSource<'b> {
    bridge: &'b Bridge,
    path: String,
    pub(super) last_id: Option<String>,
    stream: Option<Opened>,
}

impl<'b> EventSource<'b> {
    pub(super) const fn new(bridge: &'b Bridge, path: String) -> Self {
        Self {
            bridge,
            path,
            last_id: None,
            stream: None,
        }
    }

    /// The next block of any kind; connects where it is not connected.
    pub(super) async fn block(&mut self) -> Option<Block> {
        if self.stream.is_none() {
            let mut request = self.bridge.get(&self.path);
            if let Some(id) = &self.last_id {
                request = request.header("last-event-id", id);
            }
            self.stream = Some(request.stream().await.expect_ok());
        }
        let block = self.stream.as_mut()?.block().await?;
        if let Some(id) = &block.id {
            self.last_id = Some(id.clone());
        }
        Some(block)
    }

    /// The next event.
    pub(super) async fn event(&mut self) -> Block {
        loop {
            let block = self.block().await.expect("the stream goes on");
            if block.is_event() {
                return block;
            }
        }
    }

    /// The connection is lost, with all that was read of it and not dispatched.
    pub(super) fn cut(&mut self) {
        self.stream = None;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_a_hundred_times_sees_each_message_once() {
    const CUTS: u64 = 100;
    let messages: u64 = soak(5_000, 100_000);
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..messages / 2).await;
    let mut client = EventSource::new(&bridge, path("from=all"));
    let storing = fill(&nats, "s.a", messages / 2..messages);
    let reading = async {
        let (mut next, mut cuts) = (0, 0);
        while next < messages {
            let due = cuts < CUTS && next >= cuts * messages / CUTS;
            if due {
                cuts += 1;
                match cuts % 4 {
                    // Before anything, after the id alone, and in the middle.
                    0 => client.cut(),
                    1 => {
                        client.cut();
                        let block = client.block().await.expect("the id alone");
                        assert!(block.id.is_some() && !block.is_event(), "{block:?}");
                        client.cut();
                    }
                    _ => {
                        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..20)))
                            .await;
                        client.cut();
                    }
                }
            }
            let event = client.event().await;
            assert_eq!(event.event, None, "{event:?}");
            assert_eq!(event.json()["data"], next);
            next += 1;
        }
    };
    tokio::join!(storing, reading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_before_its_first_event_misses_nothing() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    for round in 0..10 {
        let mut client = EventSource::new(&bridge, path("from=new"));
        let block = client.block().await.expect("the id alone");
        assert!(!block.is_event());
        client.cut();
        let seq = nats.store("s.a", "1").await;
        assert_eq!(client.event().await.json()["seq"], seq, "{round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_tells_how_far_it_has_looked() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 1s }").await;
    fill(&nats, "s.a", 0..10).await;
    let mut client = EventSource::new(&bridge, path("from=all&subject=s.rare"));
    let block = client.block().await.expect("the id alone");
    let tag = block.id.expect("an id");
    let tag = tag.strip_prefix("0-").expect("the beginning").to_owned();
    let reaches = async |client: &mut EventSource<'_>, seq: u64| {
        let id = format!("{seq}-{tag}");
        while client.last_id.as_deref() != Some(&id) {
            let block = client.block().await.expect("a keep-alive");
            assert!(!block.is_event() && block.comments.is_empty(), "{block:?}");
        }
    };
    reaches(&mut client, 10).await;
    fill(&nats, "s.a", 0..5).await;
    reaches(&mut client, 15).await;
    client.cut();
    assert_eq!(nats.store("s.rare", "1").await, 16);
    assert_eq!(client.event().await.json()["seq"], 16);
    reaches(&mut client, 16).await;
}
