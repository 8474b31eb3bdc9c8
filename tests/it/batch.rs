//! `POST /v1/publish` with NDJSON, and `?split=lines`.

mod faults;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{Answer, Bridge, Calm, Nats, SOON, round_trip, within};

/// A body whose pieces are sent by hand.
pub(super) fn body_by_hand() -> (mpsc::Sender<Bytes>, reqwest::Body) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (
        sender,
        reqwest::Body::wrap_stream(pieces.map(Ok::<_, std::io::Error>)),
    )
}

pub(super) async fn ndjson(bridge: &Bridge, query: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = bridge.post(&format!("/v1/publish?{query}"));
    let request = request.header("content-type", "application/x-ndjson");
    request.body(body).send().await
}

fn line_codes(problem: &Value) -> Vec<(u64, String)> {
    let failed = problem["failed"].as_array().unwrap().iter();
    failed
        .map(|failed| {
            let code = failed["code"].as_str().unwrap().to_owned();
            (failed["line"].as_u64().unwrap(), code)
        })
        .collect()
}

#[tokio::test]
async fn each_line_is_a_message() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "nats: { connections: 2 }").await;
    let client = nats.client().await;
    let mut seen = client.subscribe("b.>").await.unwrap();
    round_trip(&client).await;
    let body = concat!(
        r#"{"subject":"b.1","data":{"id": 1}}"#,
        "\n",
        "\r\n",
        r#"{"subject":"b.2","data":"text\n","headers":{"Order-Id":["7","8"]},"msg_id":"m"}"#,
        "\r\n",
        r#"{"subject":"b.3","data":"/wA=","encoding":"base64"}"#,
        "\n",
        r#"{"subject":"b.4"}"#,
    );
    for confirm in ["none", "server"] {
        let answer = ndjson(&bridge, &format!("confirm={confirm}"), body).await;
        assert_eq!(
            answer.expect(200).json(),
            json!({"published": 4}),
            "{confirm}"
        );
        let mut messages = Vec::new();
        for _ in 0..4 {
            messages.push(within(SOON, "the message", seen.next()).await.unwrap());
        }
        messages.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        let payloads: Vec<&[u8]> = messages.iter().map(|m| m.payload.as_ref()).collect();
        assert_eq!(payloads, [&b"{\"id\": 1}"[..], b"text\n", b"\xff\0", b""]);
        let headers = messages[1].headers.as_ref().unwrap();
        assert_eq!(headers.get_all("Order-Id").count(), 2);
        assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "m");
        assert!(messages[0].headers.is_none());
    }
    let answer = ndjson(&bridge, "", "").await.expect(200);
    assert_eq!(answer.json(), json!({"published": 0}));
}

#[tokio::test]
async fn a_body_can_be_split_into_lines_whatever_it_is() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let mut seen = client.subscribe("lines").await.unwrap();
    round_trip(&client).await;
    let request = bridge
        .post("/v1/publish/lines?split=lines")
        .header("content-type", "text/csv")
        .header("natsh-source", "csv");
    let answer = request.body("a,1\r\n\nb,2\nc\rd").send().await.expect(200);
    assert_eq!(answer.json(), json!({"published": 3}));
    for payload in ["a,1", "b,2", "c\rd"] {
        let message = within(SOON, "the message", seen.next()).await.unwrap();
        assert_eq!(message.payload, payload);
        let headers = message.headers.unwrap();
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert_eq!(headers.get("Source").unwrap().as_str(), "csv");
    }
}

#[tokio::test]
async fn a_line_that_fails_is_named_and_the_others_are_published() {
    let nats = Nats::builder().config("max_payload: 5000").start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let long = "x".repeat(5001);
    let body = [
        r#"{"subject":"a"}"#,
        "{",
        "",
        r#"{"subject":"a.*"}"#,
        r#"{"subject":"$JS.API.INFO"}"#,
        r#"{"subject":"a","headers":{"Nats-Rollup":"all"}}"#,
        r#"{"subject":"a","data":"?","encoding":"base64"}"#,
        &json!({"subject": "a", "data": long}).to_string(),
        r#"{"subject":"a","unknown":1}"#,
        r#"{"subject":"a"}"#,
        &"y".repeat(200_000),
    ]
    .join("\n");
    for confirm in ["none", "server"] {
        let answer = ndjson(&bridge, &format!("confirm={confirm}"), body.clone()).await;
        let problem = answer.expect_problem(422, "batch-incomplete");
        assert_eq!(problem["published"], 2);
        assert_eq!(problem["failed_total"], 8);
        let expected = [
            (2, "invalid-body"),
            (4, "wildcard-not-allowed"),
            (5, "subject-not-allowed"),
            (6, "header-not-allowed"),
            (7, "invalid-body"),
            (8, "payload-too-large"),
            (9, "invalid-body"),
            (11, "payload-too-large"),
        ];
        assert_eq!(
            line_codes(&problem),
            expected.map(|(line, code)| (line, code.to_owned()))
        );
        assert_eq!(problem["failed"][0]["outcome"], "not_sent");
        assert_eq!(problem["failed"][0]["retryable"], false);
        assert!(problem.get("unknown").is_none());
    }
    let answer = bridge.post("/v1/publish/a?split=lines");
    let lines = format!("{long}\nok\n{}", &long[1..]);
    let problem = answer
        .body(lines)
        .send()
        .await
        .expect_problem(422, "batch-incomplete");
    assert_eq!(problem["published"], 2);
    assert_eq!(line_codes(&problem), [(1, "payload-too-large".to_owned())]);

    let answer = ndjson(&bridge, "", "x\n".repeat(250)).await;
    let problem = answer.expect_problem(422, "batch-incomplete");
    assert_eq!(problem["failed_total"], 250);
    assert_eq!(problem["failed"].as_array().unwrap().len(), 100);
    assert_eq!(problem["outcome"], "not_sent");
    calm.holds().await;
}

#[tokio::test]
async fn streams_say_what_they_stored() {
    let nats = Nats::start().await;
    nats.stream("A", &["a"], json!({})).await;
    nats.stream("B", &["b"], json!({"max_msgs": 2, "discard": "new"}))
        .await;
    let bridge = Bridge::start(&nats, "").await;
    let body: String = (1..=600)
        .map(|number| format!("{{\"subject\":\"a\",\"data\":{number},\"msg_id\":\"m{number}\"}}\n"))
        .collect();
    let query = "confirm=stream&timeout=20s";
    let answer = ndjson(&bridge, query, body.clone())
        .await
        .expect(200)
        .json();
    let stored = json!({"first_seq": 1, "last_seq": 600, "duplicates": 0});
    assert_eq!(answer, json!({"published": 600, "streams": {"A": stored}}));
    let answer = ndjson(&bridge, query, body).await.expect(200).json();
    let again = json!({"first_seq": 1, "last_seq": 600, "duplicates": 600});
    assert_eq!(answer, json!({"published": 600, "streams": {"A": again}}));
    let last = nats.stored("A", 600).await;
    assert_eq!(last["data"], "NjAw", "in order");

    let body = ["a", "nowhere", "b", "b", "b", "nowhere", "a"]
        .map(|subject| format!("{{\"subject\":\"{subject}\"}}"))
        .join("\n");
    let answer = ndjson(&bridge, query, body).await;
    let problem = answer.expect_problem(503, "batch-incomplete");
    assert_eq!(problem["published"], 4);
    let expected = [(2, "no-stream"), (5, "stream-full"), (6, "no-stream")];
    assert_eq!(
        line_codes(&problem),
        expected.map(|(line, code)| (line, code.to_owned()))
    );
    assert_eq!(problem["streams"]["A"]["last_seq"], 602);

    let problem = ndjson(&bridge, query, r#"{"subject":"nowhere"}"#).await;
    problem.expect_problem(422, "batch-incomplete");
}

#[tokio::test]
async fn order_holds_per_subject() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"], json!({})).await;
    let bridge = Bridge::start(&nats, "nats: { connections: 4 }").await;
    let client = nats.client().await;
    let mut seen = client.subscribe("s.>").await.unwrap();
    round_trip(&client).await;
    for confirm in ["none", "server", "stream"] {
        const LINES: usize = 5000;
        let body: String = (0..LINES)
            .map(|number| format!("{{\"subject\":\"s.{}\",\"data\":{number}}}\n", number % 7))
            .collect();
        let answer = ndjson(&bridge, &format!("confirm={confirm}&timeout=20s"), body).await;
        assert_eq!(answer.expect(200).json()["published"], LINES);
        let mut last = std::collections::HashMap::new();
        for _ in 0..LINES {
            let message = within(SOON, "the message", seen.next()).await.unwrap();
            let number: i64 = std::str::from_utf8(&message.payload)
                .unwrap()
                .parse()
                .unwrap();
            let before = last.insert(message.subject.to_string(), number);
            assert!(before.is_none_or(|before| before < number), "{confirm}");
        }
    }
}

#[tokio::test]
async fn what_was_read_is_sent_while_the_client_lets_wait() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    let mut seen = client.subscribe("live").await.unwrap();
    round_trip(&client).await;
    let (sender, body) = body_by_hand();
    let answer = tokio::spawn(
        bridge
            .post("/v1/publish/live?split=lines")
            .body(body)
            .send(),
    );
    for number in 0..3 {
        sender.send(format!("{number}\nbeg").into()).await.unwrap();
        let message = within(SOON, "the line, not its successor", seen.next())
            .await
            .unwrap();
        let expected = if number == 0 {
            "0".to_owned()
        } else {
            format!("beg{number}")
        };
        assert_eq!(message.payload, expected);
    }
    drop(sender);
    assert_eq!(
        answer.await.unwrap().expect(200).json(),
        json!({"published": 4})
    );
}

#[tokio::test]
async fn what_is_no_batch_is_refused() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    for content_type in ["application/json", "text/plain"] {
        let request = bridge
            .post("/v1/publish")
            .header("content-type", content_type);
        let answer = request.body("{\"subject\":\"a\"}").send().await;
        answer.expect_problem(415, "unsupported-media-type");
    }
    for (path, code) in [
        ("/v1/publish?split=lines", "invalid-parameter"),
        ("/v1/publish?ttl=5s&confirm=stream", "invalid-parameter"),
        ("/v1/publish?timeout=31s", "invalid-parameter"),
        ("/v1/publish/a?split=words", "invalid-parameter"),
        (
            "/v1/publish/a?split=lines&expect_last_seq=1",
            "invalid-parameter",
        ),
        ("/v1/publish/a.*?split=lines", "wildcard-not-allowed"),
    ] {
        let request = bridge
            .post(path)
            .header("content-type", "application/x-ndjson");
        request.body("x").send().await.expect_problem(400, code);
    }
    let request = bridge.post("/v1/publish/a?split=lines");
    let answer = request
        .header("idempotency-key", "k")
        .body("x")
        .send()
        .await;
    answer.expect_problem(400, "invalid-header");
}

#[tokio::test]
async fn the_headers_of_the_request_and_of_a_line_are_counted_together() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let own: serde_json::Map<String, Value> = (0..40)
        .map(|number| (format!("Own-{number}"), json!("x")))
        .collect();
    let line = json!({"subject": "a", "headers": own}).to_string();
    for (common, published) in [(24, true), (25, false)] {
        let mut request = bridge
            .post("/v1/publish")
            .header("content-type", "application/x-ndjson");
        // One is the content type of the lines, which is theirs and not the message's.
        for number in 0..common {
            request = request.header(&format!("natsh-h-{number}"), "x");
        }
        let answer = request.body(line.clone()).send().await;
        if published {
            answer.expect(200);
        } else {
            let problem = answer.expect_problem(422, "batch-incomplete");
            assert_eq!(line_codes(&problem), [(1, "headers-too-large".to_owned())]);
        }
    }
}

#[tokio::test]
async fn the_longest_line_is_drawn_before_it_comes() {
    let nats = Nats::start().await;
    let yaml = "memory: { bodies: 8MiB }\napi: { batch: { line_limit: 3MiB } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let held = "natsway_http_bodies_held_bytes";
    let (first, body) = body_by_hand();
    let one = tokio::spawn(bridge.post("/v1/publish/a?split=lines").body(body).send());
    bridge.metric_becomes(held, &[], |n| n > 4_000_000.0).await;
    let (_second, body) = body_by_hand();
    let two = tokio::spawn(bridge.post("/v1/publish/a?split=lines").body(body).send());
    bridge.metric_becomes(held, &[], |n| n > 8_000_000.0).await;
    let (_third, body) = body_by_hand();
    let refused = bridge.post("/v1/publish/a?split=lines").body(body).send();
    refused.await.expect_problem(503, "overloaded");
    first.send("1\n".into()).await.unwrap();
    drop(first);
    assert_eq!(
        one.await.unwrap().expect(200).json(),
        json!({"published": 1})
    );
    // A short one draws no more than it is long.
    let short = bridge.post("/v1/publish/a?split=lines").body("1\n2\n");
    short.send().await.expect(200);
    two.abort();
}
