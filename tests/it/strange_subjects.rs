//! Subjects of other publishers that natsway itself would never send: the server takes nearly any byte.
//! Whoever reads stays, and is told of what it could not be given; natsway stays up.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::client::Opened;
use crate::harness::ws::Ws;
use crate::harness::{Bridge, Nats, SOON, raw, round_trip, within};

/// What is text in any encoding of it: delivered as it is.
const TEXT: &[&str] = &[
    "n.\0a",
    "n.\u{1}\u{1b}[2J",
    "n.\u{7f}",
    "n.a\u{202e}b",
    "n.\u{fffd}",
    "n.\"}\\",
    "n.*",
    "n.>",
];

/// What is no UTF-8: the client library gives up the connection it comes over.
const NO_TEXT: &[&[u8]] = &[b"n.\xff\xfe", b"n.\xed\xa0\x80"];

const CALM: usize = 100;

/// Every form in which somebody may read.
struct Readers {
    sse: Opened,
    lines: Opened,
    everything: Opened,
    ws: Ws,
    multiplexed: Ws,
    /// Of other subjects.
    calm: Vec<Opened>,
}

impl Readers {
    async fn open(bridge: &Bridge) -> Self {
        let mut calm = Vec::with_capacity(CALM);
        for number in 0..CALM {
            calm.push(bridge.sse(&format!("/v1/subscribe/calm.{number}")).await);
        }
        let mut multiplexed = bridge.ws("/v1/ws").await;
        multiplexed
            .send(&json!({"op": "subscribe", "id": 1, "subject": "n.>"}))
            .await;
        assert_eq!(multiplexed.next().await, json!({"op": "ok", "id": 1}));
        Self {
            sse: bridge.sse("/v1/subscribe/n.%3E").await,
            lines: bridge.ndjson("/v1/subscribe/n.%3E").await,
            everything: bridge.ndjson("/v1/subscribe/%3E").await,
            ws: bridge.ws("/v1/subscribe/n.%3E").await,
            multiplexed,
            calm,
        }
    }

    /// What each of those who read `n.>` is told next.
    async fn next(&mut self) -> [Value; 5] {
        within(SOON, "every reader is told", async {
            let event = self.sse.event().await.expect("the stream goes on");
            let mut framed = self.multiplexed.next().await;
            let members = framed.as_object_mut().expect("an object");
            // What only this form has; its notices have their own member for the word.
            members.remove("id");
            if let Some(Value::String(op)) = members.remove("op")
                && op != "message"
            {
                members.insert("notice".to_owned(), op.into());
            }
            [
                event.json(),
                self.lines.json_line().await.expect("a line"),
                self.everything.json_line().await.expect("a line"),
                self.ws.next().await,
                framed,
            ]
        })
        .await
    }
}

async fn start() -> (Nats, Bridge, Readers, raw::Client) {
    let nats = Nats::start().await;
    let yaml = "api: { subscribe: { subjects: { root_wildcards: true } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let readers = Readers::open(&bridge).await;
    let publisher = nats.raw().await;
    (nats, bridge, readers, publisher)
}

/// Publishes with and without headers, which are parsed in two ways.
async fn publish(publisher: &mut raw::Client, subject: &[u8], with_headers: bool) {
    if with_headers {
        let block = b"NATS/1.0\r\nA: b\r\n\r\n";
        publisher.publish_headers(subject, "", block, b"x").await;
    } else {
        publisher.publish(subject, b"x").await;
    }
    publisher.flush().await;
    assert_eq!(publisher.errors, [""; 0], "the server takes it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_text_arrives_whatever_it_holds() {
    let (nats, bridge, mut readers, mut publisher) = start().await;
    let cids = nats.bridge_cids().await;
    for subject in TEXT {
        publish(&mut publisher, subject.as_bytes(), false).await;
        let plain = json!({"subject": subject, "encoding": "text", "data": "x"});
        for told in readers.next().await {
            assert_eq!(told, plain);
        }
        publish(&mut publisher, subject.as_bytes(), true).await;
        for told in readers.next().await {
            assert_eq!(told["headers"], json!({"A": ["b"]}), "{told}");
            assert_eq!(told["subject"], *subject);
        }
    }
    assert_eq!(nats.bridge_cids().await, cids, "no connection was lost");
    assert!(bridge.exited().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_is_a_gap_for_every_reader() {
    let (nats, bridge, mut readers, mut publisher) = start().await;
    let gap = json!({"notice": "gap", "dropped": null, "reason": "reconnected"});
    for (subject, with_headers) in NO_TEXT.iter().zip([false, true]) {
        publish(&mut publisher, subject, with_headers).await;
        for told in readers.next().await {
            assert_eq!(told, gap, "{subject:?}");
        }
        for reader in &mut readers.calm {
            let event = reader.event().await.expect("the stream goes on");
            assert_eq!(event.json(), gap, "{subject:?}");
        }
    }
    // All of them go on.
    bridge.is_connected().await;
    let client = nats.client().await;
    for number in 0..CALM {
        let sent = client.publish(format!("calm.{number}"), "1".into()).await;
        sent.expect("sent");
    }
    client.publish("n.last", "1".into()).await.expect("sent");
    round_trip(&client).await;
    for reader in &mut readers.calm {
        let event = reader.event().await.expect("the stream goes on");
        assert_eq!(event.json()["data"], 1);
    }
    for _ in 0..CALM {
        readers.everything.json_line().await.expect("a line");
    }
    for told in readers.next().await {
        assert_eq!(told["subject"], "n.last", "{told}");
    }
    bridge.post("/v1/publish/a").send().await.expect(204);
    assert!(bridge.exited().is_none());
}

/// A reader without in-band notices learns it from the code its socket closes with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_without_notices_is_closed_with_the_code_of_a_gap() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut ws = bridge.ws("/v1/subscribe/n.%3E?format=raw").await;
    let mut publisher = nats.raw().await;
    publish(&mut publisher, b"n.\0a", false).await;
    assert_eq!(ws.next_frame().await, Some(Message::text("x")));
    publish(&mut publisher, NO_TEXT[0], false).await;
    assert_eq!(ws.closed().await, Some((4000, "reconnected".to_owned())));
}

/// async-nats takes any Unicode white space in the line of a message with headers for the end of the
/// subject, and what follows for the number of the subscription.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_does_not_lead_to_somebody_elses_reader() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut secret = bridge.ndjson("/v1/subscribe/secret.a").await;
    let mut secrets = bridge.ndjson("/v1/subscribe/secret.*").await;
    let _own = bridge.ndjson("/v1/subscribe/n.%3E").await;
    let mut publisher = nats.raw().await;
    for blank in ["\u{b}", "\u{c}", "\u{2028}", "\u{a0}"] {
        for number in 1..40 {
            publish(
                &mut publisher,
                format!("n.x{blank}{number}").as_bytes(),
                true,
            )
            .await;
        }
        bridge.is_connected().await;
    }
    // Published again and again, because they may be being subscribed again.
    let client = nats.client().await;
    for reader in [&mut secret, &mut secrets] {
        within(SOON, "the reader goes on", async {
            loop {
                client.publish("secret.a", "1".into()).await.expect("sent");
                round_trip(&client).await;
                let line = reader.json_line().await.expect("the stream goes on");
                if line["notice"] != "gap" {
                    break assert_eq!(line["subject"], "secret.a", "{line}");
                }
            }
        })
        .await;
    }
    assert!(bridge.exited().is_none());
}
