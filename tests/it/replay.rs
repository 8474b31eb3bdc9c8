//! `GET /v1/streams/{stream}/subscribe`: where a replay begins, what it brings, how it ends.

mod event_source;
mod life;
mod refusals;
mod resume;
mod sharing;

use serde_json::{Value, json};

use crate::harness::client::Opened;
use crate::harness::{Bridge, Nats};

/// No message at all.
const NONE: [u64; 0] = [];
const SUBSCRIBE: &str = "/v1/streams/S/subscribe";

/// A server with the stream `S` on `s.>`.
async fn server(more: Value) -> Nats {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], more).await;
    nats
}

fn path(query: &str) -> String {
    format!("{SUBSCRIBE}?{query}")
}

/// Stores the numbers in order, many at a time, and waits until all are stored.
async fn fill(nats: &Nats, subject: &str, numbers: std::ops::Range<u64>) {
    let client = nats.client().await;
    let mut acks = tokio::task::JoinSet::new();
    for number in numbers {
        if acks.len() >= 256 {
            stored(&mut acks).await;
        }
        // Sent in order; only the acks are waited for out of it.
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.expect("an inbox");
        let payload = number.to_string().into();
        client
            .publish_with_reply(subject.to_owned(), inbox, payload)
            .await
            .expect("sent");
        acks.spawn(async move {
            use futures_util::StreamExt as _;
            let reply = replies.next().await.expect("a PubAck");
            let ack: Value = serde_json::from_slice(&reply.payload).expect("a PubAck");
            assert!(ack["seq"].is_u64(), "{ack}");
        });
    }
    while !acks.is_empty() {
        stored(&mut acks).await;
    }
}

async fn stored(acks: &mut tokio::task::JoinSet<()>) {
    let stored = crate::harness::within(crate::harness::SOON, "a PubAck", acks.join_next());
    stored.await.expect("there is one").expect("it is stored");
}

/// All sequences of a replay that ends by itself, and the reason.
async fn all_seqs(bridge: &Bridge, query: &str) -> (Vec<u64>, String) {
    let mut stream = bridge.ndjson(&path(query)).await;
    let (mut seqs, mut reason) = (Vec::new(), None);
    while let Some(line) = stream.json_line().await {
        assert!(reason.is_none(), "nothing follows an end: {line}");
        match line["notice"].as_str() {
            None => seqs.push(line["seq"].as_u64().expect("a sequence")),
            Some("end") => reason = line["reason"].as_str().map(str::to_owned),
            Some(_) => panic!("{line}"),
        }
    }
    (seqs, reason.expect("an end"))
}

async fn next_seq(stream: &mut Opened) -> u64 {
    let line = stream.json_line().await.expect("a line");
    line["seq"]
        .as_u64()
        .unwrap_or_else(|| panic!("a message was expected, not {line}"))
}

/// How many consumers the stream has.
async fn consumers(nats: &Nats) -> u64 {
    let state = nats.stream_state("S").await;
    state["consumer_count"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_begins_where_it_is_told() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    assert_eq!(all_seqs(&bridge, "from=all&until=now").await.0, NONE);
    assert_eq!(all_seqs(&bridge, "from=last&until=now").await.0, NONE);
    for subject in ["s.a", "s.b", "s.a", "s.c", "s.b", "s.a"] {
        nats.store(subject, "1").await;
    }
    let time = nats.stored("S", 4).await["time"]
        .as_str()
        .unwrap()
        .to_owned();
    let time = time.replace(':', "%3A").replace('+', "%2B");
    for (query, seqs) in [
        ("from=all", &[1, 2, 3, 4, 5, 6][..]),
        ("from=new", &[]),
        ("", &[]),
        ("from=last", &[6]),
        ("from=last&subject=s.b", &[5]),
        ("from=last&subject=s.b&subject=s.c", &[5]),
        ("from=last&subject=s.none", &[]),
        ("from=last_per_subject", &[4, 5, 6]),
        ("from=last_per_subject&subject=s.a&subject=s.c", &[4, 6]),
        ("from=seq:0", &[1, 2, 3, 4, 5, 6]),
        ("from=seq:3", &[3, 4, 5, 6]),
        ("from=seq:3&subject=s.a", &[3, 6]),
        ("from=seq:6", &[6]),
        ("from=seq:7", &[]),
        (&format!("from=time:{time}"), &[4, 5, 6]),
        (&format!("from=time:{time}&subject=s.b"), &[5]),
        ("from=time:2000-01-01T00%3A00%3A00Z", &[1, 2, 3, 4, 5, 6]),
        ("from=time:2200-01-01T00%3A00%3A00Z", &[]),
    ] {
        let found = all_seqs(&bridge, &format!("{query}&until=now")).await;
        assert_eq!(found, (seqs.to_vec(), "caught-up".to_owned()), "{query}");
    }
    let found = all_seqs(&bridge, "from=seq:2&max=3").await;
    assert_eq!(found, (vec![2, 3, 4], "max".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_on_with_what_comes() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    for subject in ["s.a", "s.b", "s.a"] {
        nats.store(subject, "1").await;
    }
    let time = "from=time:2000-01-01T00%3A00%3A00Z";
    let mut streams = Vec::new();
    for (query, seqs) in [
        ("from=all", &[1, 2, 3][..]),
        ("from=new", &[]),
        ("from=last", &[3]),
        ("from=last_per_subject", &[2, 3]),
        ("from=seq:2", &[2, 3]),
        (time, &[1, 2, 3]),
        ("last_event_id=1", &[2, 3]),
    ] {
        let mut stream = bridge.ndjson(&path(query)).await;
        for seq in seqs {
            assert_eq!(next_seq(&mut stream).await, *seq, "{query}");
        }
        streams.push((query, stream));
    }
    for seq in 4..8 {
        assert_eq!(nats.store("s.c", "1").await, seq);
        for (query, stream) in &mut streams {
            assert_eq!(next_seq(stream).await, seq, "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_brings_the_same_with_what_the_stream_knows() {
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    nats.store("s.a", r#"{"id":7}"#).await;
    nats.store("s.b", "text").await;
    let query = path("from=all&until=now");
    let mut lines = bridge.ndjson(&query).await;
    let line = lines.json_line().await.expect("a line");
    let time = line["time"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.len() > 20, "{time}");
    let expected = json!({"subject": "s.a", "encoding": "json", "data": {"id": 7},
        "stream": "S", "seq": 1, "time": time, "delivered": 1, "pending": 1});
    assert_eq!(line, expected);
    let mut sse = bridge.sse(&query).await;
    let first = sse.block().await.expect("the id alone");
    let tag = first.id.as_deref().and_then(|id| id.strip_prefix("0-"));
    let tag = tag.expect("the position before the first message");
    assert!(first.data.is_none() && first.event.is_none(), "{first:?}");
    let event = sse.block().await.expect("an event");
    assert_eq!(
        (event.json(), event.event.as_deref()),
        (expected.clone(), None)
    );
    assert_eq!(event.id.as_deref(), Some(&*format!("1-{tag}")));
    assert_eq!(
        sse.block().await.expect("an event").id,
        Some(format!("2-{tag}"))
    );
    let end = sse.block().await.expect("the end");
    assert_eq!(end.event.as_deref(), Some("end"));
    assert_eq!(end.json(), json!({"notice": "end", "reason": "caught-up"}));
    assert!(end.retry.is_some());
    assert_eq!(sse.chunk().await, None);
    let mut ws = bridge.ws(&query).await;
    assert_eq!(ws.next().await, expected);
    assert_eq!(ws.next().await["data"], "text");
    assert_eq!(ws.next().await["reason"], "caught-up");
    assert_eq!(ws.closed().await, Some((1000, "caught-up".to_owned())));
    // Payloads keep their ids.
    let mut raw = bridge.sse(&format!("{query}&format=raw")).await;
    let event = raw.event().await.expect("an event");
    assert_eq!(event.data.as_deref(), Some(r#"{"id":7}"#));
    assert_eq!(event.id, Some(format!("1-{tag}")));
    let mut raw = bridge.ws(&format!("{query}&format=raw")).await;
    assert_eq!(raw.next().await, json!({"id": 7}));
    let mut base64 = bridge.ndjson(&format!("{query}&encoding=base64")).await;
    let line = base64.json_line().await.expect("a line");
    assert_eq!(
        (&line["encoding"], &line["data"]),
        (&json!("base64"), &json!("eyJpZCI6N30="))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_messages_come_in_order_while_more_are_stored() {
    const BEFORE: u64 = 15_000;
    const ALL: u64 = 20_000;
    let nats = server(json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    fill(&nats, "s.a", 0..BEFORE).await;
    let mut replay = bridge.ndjson(&path("from=all")).await;
    let mut live = bridge.sse(&path("from=new")).await;
    let storing = async { fill(&nats, "s.a", BEFORE..ALL).await };
    let reading = async {
        for number in 0..ALL {
            let line = replay.json_line().await.expect("a line");
            assert_eq!(
                (&line["data"], &line["seq"]),
                (&json!(number), &json!(number + 1))
            );
        }
    };
    let following = async {
        for number in BEFORE..ALL {
            assert_eq!(live.event().await.expect("an event").json()["data"], number);
        }
    };
    tokio::join!(storing, reading, following);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_route_replays_what_it_names() {
    let nats = server(json!({})).await;
    let yaml = "routes: [
        { name: history, match: { method: GET, path: \"/history/{who}\" }, params: [max, last_event_id],
          replay: { stream: S, subject: \"s.{who}\", from: all, until: now } },
        { name: everything, match: { method: GET, path: /everything }, params: [from],
          replay: { stream: S, from: last } } ]";
    let bridge = Bridge::start(&nats, yaml).await;
    for subject in ["s.a", "s.b", "s.a", "s.b"] {
        nats.store(subject, "1").await;
    }
    let seqs = async |path: &str| {
        let mut stream = bridge.ndjson(path).await;
        let mut seqs = Vec::new();
        while let Some(seq) = stream
            .json_line()
            .await
            .and_then(|line| line["seq"].as_u64())
        {
            seqs.push(seq);
        }
        seqs
    };
    assert_eq!(seqs("/history/a").await, [1, 3]);
    assert_eq!(seqs("/history/b?max=1").await, [2]);
    assert_eq!(seqs("/history/b?last_event_id=2").await, [4]);
    let refused = bridge.get("/history/a?from=new").send().await;
    refused.expect_problem(400, "invalid-parameter");
    let refused = bridge.get("/history/%3E").send().await;
    refused.expect_problem(400, "invalid-subject");
    let mut everything = bridge.ndjson("/everything").await;
    assert_eq!(next_seq(&mut everything).await, 4);
    nats.store("s.c", "1").await;
    assert_eq!(next_seq(&mut everything).await, 5);
}
