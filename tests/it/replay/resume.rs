//! What a client is told that comes back to a stream which has changed meanwhile.

use serde_json::{Value, json};

use super::event_source::EventSource;
use super::{NONE, all_seqs, fill, path, server};
use crate::harness::{Bridge, Nats, SOON, eventually};

async fn recreate(nats: &Nats) {
    let deleted = nats.js("STREAM.DELETE.S", &json!({})).await;
    assert_eq!(deleted["success"], true, "{deleted}");
    nats.stream("S", &["s.>"], json!({})).await;
}

async fn purge(nats: &Nats, request: Value) {
    let purged = nats.js("STREAM.PURGE.S", &request).await;
    assert_eq!(purged["success"], true, "{purged}");
}

/// Reads to a position, and is cut off there.
async fn stands_at<'b>(bridge: &'b Bridge, seq: u64, query: &str) -> EventSource<'b> {
    let mut client = EventSource::new(bridge, path(query));
    loop {
        if client.event().await.json()["seq"] == seq {
            client.cut();
            return client;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_meanwhile_is_numbered() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..10).await;
    let mut client = stands_at(&bridge, 3, "from=all").await;
    let mut filtered = stands_at(&bridge, 3, "from=all&subject=s.a").await;
    let mut unconcerned = stands_at(&bridge, 6, "from=all").await;
    purge(&nats, json!({"seq": 7})).await;
    let first = client.block().await.expect("the id alone");
    assert!(first.id.is_some_and(|id| id.starts_with("3-")));
    let gap = client.event().await;
    assert_eq!(gap.event.as_deref(), Some("gap"));
    let expected =
        json!({"notice": "gap", "dropped": 3, "from_seq": 4, "to_seq": 6, "reason": "trimmed"});
    assert_eq!(gap.json(), expected);
    // It has been told, and is not told again.
    client.cut();
    assert_eq!(client.event().await.json()["seq"], 7);
    let gap = filtered.event().await.json();
    assert_eq!(gap["dropped"], Value::Null);
    assert_eq!((&gap["from_seq"], &gap["to_seq"]), (&json!(4), &json!(6)));
    assert_eq!(filtered.event().await.json()["seq"], 7);
    assert_eq!(unconcerned.event().await.json()["seq"], 7);
    let mut lines = bridge.ndjson(&path("last_event_id=3&until=now")).await;
    assert_eq!(lines.json_line().await, Some(expected));
    assert_eq!(lines.json_line().await.expect("a line")["seq"], 7);
    let mut raw = bridge.ws(&path("last_event_id=3&format=raw")).await;
    assert_eq!(raw.closed().await, Some((4000, "trimmed".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_trimmed_while_a_client_waits_for_its_turn_is_numbered_too() {
    let nats = server(json!({})).await;
    let yaml = "api: { jetstream: { catchups_max: 1 } }\nstreams: { keep_alive: 120s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    for _ in 0..400 {
        client
            .publish("s.a", "x".repeat(50_000).into())
            .await
            .expect("sent");
    }
    eventually(SOON, "all is stored", async || {
        nats.stream_state("S").await["messages"] == 400
    })
    .await;
    purge(&nats, json!({"seq": 7})).await;
    // One has the only place and does not read; the other has looked at the stream and waits for it.
    let mut behind = bridge.ndjson(&path("from=all&until=now")).await;
    behind.json_line().await.expect("a line");
    let opening = bridge
        .get(&path("last_event_id=3&until=now&timeout=20s"))
        .header("accept", "application/x-ndjson");
    let opening = tokio::spawn(opening.stream());
    eventually(SOON, "it waits, or has waited", async || {
        opening.is_finished() || bridge.metric("natsway_replay_waiting", &[]).await > 0.5
    })
    .await;
    purge(&nats, json!({"seq": 10})).await;
    drop(behind);
    let mut reader = opening.await.unwrap().expect_ok();
    // With the place before the purge it was not too late for 7 to 9.
    let mut next = 4;
    while next <= 400 {
        let line = reader.json_line().await.expect("a line");
        match line["notice"].as_str() {
            None => {
                assert_eq!(line["seq"], next);
                next += 1;
            }
            Some(_) => {
                assert_eq!(
                    (&line["reason"], &line["from_seq"]),
                    (&json!("trimmed"), &json!(next))
                );
                next = line["to_seq"].as_u64().expect("a sequence") + 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_begins_beyond_the_end_returns_to_the_same_stream() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..10).await;
    let mut client = EventSource::new(&bridge, path("from=seq:1000"));
    let id = client.block().await.expect("a block").id.expect("an id");
    assert!(id.starts_with("10-"), "{id}");
    client.cut();
    assert_eq!(nats.store("s.a", "1").await, 11);
    assert_eq!(client.event().await.json()["seq"], 11);
    client.cut();
    assert_eq!(nats.store("s.a", "1").await, 12);
    assert_eq!(client.event().await.json()["seq"], 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_limit_let_go_between_two_connections_is_numbered() {
    let nats = server(json!({"max_msgs": 10})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..10).await;
    let mut all = stands_at(&bridge, 4, "from=all").await;
    let mut some = stands_at(&bridge, 4, "from=all&subject=s.a").await;
    for client in [&mut all, &mut some] {
        client.cut();
    }
    // 11 to 25 push out 1 to 15.
    fill(&nats, "s.a", 10..25).await;
    for (client, dropped) in [(&mut all, json!(11)), (&mut some, Value::Null)] {
        let gap = client.event().await;
        let expected = json!({"notice": "gap", "dropped": dropped, "from_seq": 5, "to_seq": 15,
            "reason": "trimmed"});
        assert_eq!((gap.event.as_deref(), gap.json()), (Some("gap"), expected));
        for seq in 16..=25 {
            assert_eq!(client.event().await.json()["seq"], seq);
        }
    }
    // Whoever lost nothing is told of nothing.
    assert_eq!(
        all_seqs(&bridge, "last_event_id=15&until=now").await.0,
        (16..=25).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_stream_goes_on() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..10).await;
    let mut client = stands_at(&bridge, 3, "from=all").await;
    let mut present = stands_at(&bridge, 10, "from=all").await;
    let mut live = EventSource::new(&bridge, path("from=new"));
    live.block().await.expect("the id alone");
    purge(&nats, json!({})).await;
    let gap = client.event().await.json();
    assert_eq!(
        (&gap["dropped"], &gap["reason"]),
        (&json!(7), &json!("trimmed"))
    );
    assert_eq!((&gap["from_seq"], &gap["to_seq"]), (&json!(4), &json!(10)));
    present.block().await.expect("the id alone");
    assert_eq!(nats.store("s.a", "1").await, 11);
    for reader in [&mut client, &mut present, &mut live] {
        assert_eq!(reader.event().await.json()["seq"], 11);
    }
    let mut resumed = bridge.ndjson(&path("last_event_id=10&until=now")).await;
    assert_eq!(resumed.json_line().await.expect("a line")["seq"], 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_stream_of_the_same_name_is_read_from_its_beginning() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..10).await;
    let mut client = stands_at(&bridge, 3, "from=all").await;
    let old = client.last_id.clone().expect("an id");
    recreate(&nats).await;
    fill(&nats, "s.a", 100..105).await;
    let first = client.block().await.expect("the id alone");
    assert_eq!(first.id.as_ref(), Some(&old), "not moved before it is told");
    // Cut between the two, it would have to be told all the same.
    client.cut();
    let gap = client.event().await;
    let reset = json!({"notice": "gap", "dropped": null, "reason": "stream-reset"});
    assert_eq!(
        (gap.event.as_deref(), gap.json()),
        (Some("gap"), reset.clone())
    );
    for data in 100..105 {
        assert_eq!(client.event().await.json()["data"], data);
    }
    let tag = |id: &str| id.split_once('-').map(|(_, tag)| tag.to_owned());
    let new = client.last_id.clone().expect("an id");
    assert_ne!(tag(&new), tag(&old));
    client.cut();
    assert_eq!(nats.store("s.a", "105").await, 6);
    assert_eq!(client.event().await.json()["data"], 105);
    // A sequence alone does not say which stream; only one beyond the last cannot be of this one.
    assert_eq!(
        all_seqs(&bridge, "last_event_id=4&until=now").await.0,
        [5, 6]
    );
    assert_eq!(all_seqs(&bridge, "last_event_id=6&until=now").await.0, NONE);
    let mut beyond = bridge.ndjson(&path("last_event_id=7&until=now")).await;
    assert_eq!(beyond.json_line().await, Some(reset));
    assert_eq!(beyond.json_line().await.expect("a line")["seq"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_inside_a_stream_is_no_gap() {
    let nats = server(json!({"max_msgs_per_subject": 1})).await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store("s.first", "1").await;
    fill(&nats, "s.a", 0..20).await;
    nats.store("s.b", "1").await;
    fill(&nats, "s.a", 0..20).await;
    let mut client = EventSource::new(&bridge, path("from=all"));
    for seq in [1, 22, 42] {
        let event = client.event().await;
        assert_eq!(
            (event.event.as_deref(), &event.json()["seq"]),
            (None, &json!(seq))
        );
    }
    let found = all_seqs(&bridge, "last_event_id=1&until=now").await;
    assert_eq!(found.0, [22, 42]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_ends_its_readers_at_once() {
    let nats = server(json!({})).await;
    let yaml = "api: { jetstream: { catchups_max: 1 } }\nstreams: { keep_alive: 120s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let client = nats.client().await;
    for _ in 0..400 {
        client
            .publish("s.a", "x".repeat(50_000).into())
            .await
            .expect("sent");
    }
    eventually(SOON, "all is stored", async || {
        nats.stream_state("S").await["messages"] == 400
    })
    .await;
    // One follows, one is behind and does not read, one waits for its turn.
    let mut live = bridge.ndjson(&path("from=new")).await;
    let mut behind = bridge.ndjson(&path("from=all")).await;
    behind.json_line().await.expect("a line");
    let mut waiting = bridge.ndjson(&path("from=all")).await;
    let deleted = nats.js("STREAM.DELETE.S", &json!({})).await;
    assert_eq!(deleted["success"], true);
    let end = json!({"notice": "end", "reason": "stream-deleted"});
    for (who, reader) in [
        ("live", &mut live),
        ("waiting", &mut waiting),
        ("behind", &mut behind),
    ] {
        let last = loop {
            let line = reader.json_line().await.expect("a line");
            if line.get("notice").is_some() {
                break line;
            }
        };
        assert_eq!(last, end, "{who}");
        assert_eq!(reader.chunk().await, None);
    }
}
