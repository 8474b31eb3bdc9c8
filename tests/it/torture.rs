//! Subjects and names that would break the protocol, wherever a client can put one.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::harness::{Answer, Bridge, Calm, Nats};

/// No fence is sent to see whether the server is there, while a test counts what is sent.
const QUIET: &str = "nats: { ping_interval: 60s }";

/// Percent-encoded, with the status and code each must be answered.
const SUBJECTS: &[(&str, u16, &str)] = &[
    ("a%20b", 400, "invalid-subject"),
    ("a%09b", 400, "invalid-subject"),
    ("a%0Ab", 400, "invalid-subject"),
    ("a%0Db", 400, "invalid-subject"),
    ("a%0d%0aPUB%20x%201%0d%0ay", 400, "invalid-subject"),
    ("%0d%0a", 400, "invalid-subject"),
    ("%00", 400, "invalid-subject"),
    ("n.%00a", 400, "invalid-subject"),
    ("a%7f", 400, "invalid-subject"),
    ("a..b", 400, "invalid-subject"),
    (".a", 400, "invalid-subject"),
    ("a.", 400, "invalid-subject"),
    // Line separator, no-break space, zero-width space, right-to-left override, U+FFFD, a letter.
    ("%E2%80%A8", 400, "invalid-subject"),
    ("a%C2%A0b", 400, "invalid-subject"),
    ("a%E2%80%8Bb", 400, "invalid-subject"),
    ("a%E2%80%AEb", 400, "invalid-subject"),
    ("%EF%BF%BD", 400, "invalid-subject"),
    ("%C3%BC", 400, "invalid-subject"),
    // A lone surrogate, and bytes that begin nothing.
    ("%ED%A0%80", 400, "invalid-subject"),
    ("n.%FF%FE", 400, "invalid-subject"),
    ("*", 400, "wildcard-not-allowed"),
    ("%2A", 400, "wildcard-not-allowed"),
    ("%3E", 400, "wildcard-not-allowed"),
    ("a.*.b", 400, "wildcard-not-allowed"),
    ("a.%3E", 400, "wildcard-not-allowed"),
    ("foo.*bar", 400, "wildcard-not-allowed"),
    ("$JS.API.STREAM.DELETE.S", 403, "subject-not-allowed"),
    ("$JS.ACK.S.c.1.1.1.0.0", 403, "subject-not-allowed"),
    ("$SYS.REQ.SERVER.PING", 403, "subject-not-allowed"),
    ("$KV.bucket.key", 403, "subject-not-allowed"),
    ("_INBOX.x", 403, "subject-not-allowed"),
    ("_R_.x", 403, "subject-not-allowed"),
];

/// Encoded twice: legal to NATS, and never what anybody means.
const TWICE: &[(&str, u16, &str)] = &[
    ("%252A", 400, "invalid-subject"),
    ("%252a", 400, "invalid-subject"),
    ("a.%253E", 400, "invalid-subject"),
    ("a.%252A.b", 400, "invalid-subject"),
];

/// Longer than natsway takes, and longer than the line that makes the server close the connection.
fn too_long() -> [(String, u16, &'static str); 3] {
    [513, 5000, 12_000].map(|length| ("x".repeat(length), 414, "subject-too-long"))
}

/// All of them as they stand in a URL.
fn in_a_url() -> Vec<(String, u16, &'static str)> {
    let listed = SUBJECTS.iter().chain(TWICE);
    let listed = listed.map(|(subject, status, code)| ((*subject).to_owned(), *status, *code));
    listed.chain(too_long()).collect()
}

/// Those that JSON can say, decoded.
fn in_json() -> Vec<(String, u16, &'static str)> {
    let listed = SUBJECTS.iter().filter_map(|(subject, status, code)| {
        let subject = percent_decode_str(subject).decode_utf8().ok()?;
        Some((subject.into_owned(), *status, *code))
    });
    listed.chain(too_long()).collect()
}

/// What is no pattern either, or one that nobody may subscribe to.
fn as_pattern(subject: &str, status: u16, code: &'static str) -> Option<(u16, &'static str)> {
    match subject {
        "a.*.b" | "a.%3E" | "a.>" => None,
        "*" | "%2A" | "%3E" | ">" => Some((403, "subject-not-allowed")),
        "foo.*bar" => Some((400, "invalid-subject")),
        _ => Some((status, code)),
    }
}

#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) {
    let problem = answer.expect_problem(status, code);
    assert_eq!(problem["outcome"], "not_sent", "{problem}");
    assert_eq!(problem["retryable"], false, "{problem}");
}

async fn messages_at_the_server(nats: &Nats) -> Value {
    nats.monitor("/varz").await["in_msgs"].clone()
}

#[tokio::test]
async fn no_subject_reaches_nats_that_is_not_one() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], json!({})).await;
    let bridge = Bridge::start(&nats, QUIET).await;
    let calm = Calm::before(&nats, &bridge).await;
    let before = messages_at_the_server(&nats).await;
    for (subject, status, code) in in_a_url() {
        for path in [
            format!("/v1/publish/{subject}"),
            format!("/v1/publish/{subject}?confirm=none"),
            format!("/v1/publish/{subject}?confirm=stream"),
            format!("/v1/publish/{subject}?split=lines"),
            format!("/v1/request/{subject}"),
            format!("/v1/request/{subject}?max_replies=2"),
        ] {
            let answer = bridge.post(&path).body("x").send().await;
            refused(answer, status, code);
        }
    }
    let after = messages_at_the_server(&nats).await;
    assert_eq!(before, after, "nothing was sent");
    for fine in [&*"x".repeat(512), "a%2Fb", "a%25b", "a%252Eb"] {
        let answer = bridge.post(&format!("/v1/publish/{fine}")).send().await;
        answer.expect(204);
    }
    assert_eq!(nats.stream_state("S").await["messages"], 0);
    calm.holds().await;
}

#[tokio::test]
async fn no_subject_in_a_batch_reaches_nats_that_is_not_one() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, QUIET).await;
    let calm = Calm::before(&nats, &bridge).await;
    let before = messages_at_the_server(&nats).await;
    for (subject, status, code) in in_json() {
        let line = json!({"subject": subject, "data": "x"}).to_string();
        for confirm in ["none", "server", "stream"] {
            let request = bridge.post(&format!("/v1/publish?confirm={confirm}"));
            let request = request.header("content-type", "application/x-ndjson");
            let answer = request.body(line.clone()).send().await;
            let problem = answer.expect_problem(422, "batch-incomplete");
            let failed = &problem["failed"][0];
            assert_eq!(failed["code"], code, "{status} {subject:?}: {problem}");
            assert_eq!(failed["outcome"], "not_sent", "{problem}");
        }
    }
    // What no JSON can hold is no line.
    for line in [
        &b"{\"subject\":\"n.\xff\xfe\"}"[..],
        b"{\"subject\":\"\\ud800\"}",
        b"{\"subject\":\"a\0b\"}",
    ] {
        let request = bridge.post("/v1/publish");
        let request = request.header("content-type", "application/x-ndjson");
        let answer = request.body(line).send().await;
        let problem = answer.expect_problem(422, "batch-incomplete");
        assert_eq!(problem["failed"][0]["code"], "invalid-body", "{problem}");
    }
    let after = messages_at_the_server(&nats).await;
    assert_eq!(before, after, "nothing was sent");
    calm.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_subject_in_a_frame_reaches_nats_that_is_not_one() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let mut ws = bridge.ws("/v1/ws").await;
    for (subject, status, code) in in_json() {
        for op in ["publish", "request", "subscribe"] {
            let wanted = match op {
                "subscribe" => as_pattern(&subject, status, code),
                _ => Some((status, code)),
            };
            let Some((status, code)) = wanted else {
                continue;
            };
            ws.send(&json!({"op": op, "id": "x", "subject": subject}))
                .await;
            let frame = ws.next().await;
            let problem = &frame["problem"];
            assert_eq!(
                (&problem["status"], &problem["code"]),
                (&json!(status), &json!(code)),
                "{op} {subject:?}: {frame}"
            );
            assert_eq!(problem["outcome"], "not_sent", "{frame}");
        }
    }
    calm.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pattern_is_subscribed_that_is_not_one() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], json!({})).await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let before = nats.monitor("/varz").await["subscriptions"].clone();
    for (subject, status, code) in in_a_url() {
        let Some((status, code)) = as_pattern(&subject, status, code) else {
            continue;
        };
        for path in [
            format!("/v1/subscribe/{subject}"),
            format!("/v1/subscribe?subject={subject}"),
            format!("/v1/subscribe?subject=fine&subject={subject}"),
        ] {
            // A parameter that is no text is told as one.
            let code = match (
                path.contains('?'),
                percent_decode_str(&subject).decode_utf8(),
            ) {
                (true, Err(_)) => "invalid-parameter",
                _ => code,
            };
            for form in ["text/event-stream", "application/x-ndjson"] {
                let answer = bridge.get(&path).header("accept", form).send().await;
                refused(answer, status, code);
            }
            let answer = bridge.raw().await.refused_upgrade(&path).await;
            assert_eq!(
                (answer.status, answer.code().as_deref()),
                (status, Some(code)),
                "{path} as WebSocket"
            );
        }
    }
    let after = nats.monitor("/varz").await["subscriptions"].clone();
    assert_eq!(before, after, "nothing was subscribed");
    calm.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_reaches_nats_that_is_not_one() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    let bridge = Bridge::start(&nats, "api: { manage: true }").await;
    let calm = Calm::before(&nats, &bridge).await;
    for name in [
        "a%20b",
        "a%0d%0aPUB%20x%201%0d%0ay",
        "%00",
        "a.b",
        "*",
        "%3E",
        "a%2Fb",
        "a%5Cb",
        "%C3%BC",
        "n%FF%FE",
        &"x".repeat(5000),
    ] {
        for path in [
            format!("/v1/subscribe/a?queue={name}"),
            format!("/v1/streams/{name}"),
            format!("/v1/streams/{name}/subscribe"),
            format!("/v1/streams/{name}/messages/1"),
            format!("/v1/streams/S/consumers/{name}"),
            format!("/v1/streams/S/messages/last?subject={name}.."),
            format!("/v1/streams/S/subscribe?subject={name}.."),
        ] {
            let answer = bridge.get(&path).send().await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 414),
                "{path}: {answer:?}"
            );
        }
        for path in [
            format!("/v1/publish/s?confirm=stream&expect_stream={name}"),
            format!("/v1/streams/{name}/purge"),
            format!("/v1/streams/S/consumers/{name}/fetch"),
            format!("/v1/streams/{name}/consumers/c/fetch"),
        ] {
            let answer = bridge.post(&path).send().await;
            assert!(answer.status == 400, "{path}: {answer:?}");
        }
        for path in [
            format!("/v1/streams/{name}"),
            format!("/v1/streams/S/consumers/{name}"),
        ] {
            let answer = bridge.put(&path).body("{}").send().await;
            assert!(answer.status == 400, "{path}: {answer:?}");
        }
    }
    assert_eq!(nats.stream_state("S").await["messages"], 0);
    calm.holds().await;
}

#[tokio::test]
async fn a_wildcard_encoded_twice_is_named() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"], json!({})).await;
    let yaml = "routes:
  - { name: order, match: { path: \"/orders/{id}\", method: POST }, publish: { subject: \"orders.{id}\" } }
  - { name: stock, match: { path: \"/stock/{id}\", method: POST }, request: { subject: \"stock.{id}\" } }
  - { name: feed, match: { path: \"/feed/{id}\" }, subscribe: { subjects: [\"feed.{id}\"] } }";
    let bridge = Bridge::start(&nats, yaml).await;
    for path in [
        "/v1/subscribe/orders.%253E",
        "/v1/subscribe?subject=orders.%253E",
        "/v1/streams/S/subscribe?subject=%252A",
        "/v1/streams/S/messages/last?subject=%252A",
    ] {
        let problem = bridge.get(path).send().await;
        let problem = problem.expect_problem(400, "invalid-subject");
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains("encoded twice"), "{path}: {detail}");
    }
    for request in [
        bridge.post("/orders/%252A"),
        bridge.post("/stock/%252A"),
        bridge.get("/feed/%252A"),
    ] {
        request.send().await.expect_problem(400, "invalid-subject");
    }
    // A per cent sign by itself is as good as any other character.
    bridge.post("/orders/100%25").send().await.expect(204);
}

#[tokio::test]
async fn what_no_client_library_sends_is_refused_as_well() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, QUIET).await;
    let calm = Calm::before(&nats, &bridge).await;
    let before = messages_at_the_server(&nats).await;
    for target in [
        &b"a b"[..],
        b"a\r\nPUB x 1\r\n\r\ny",
        b"a\nPUB x 1",
        b"a\rb",
        b"a\0b",
        b"a\tb",
        b"a\x7fb",
        b"n.\xff\xfe",
        b"n.\xc3\xbc",
        b"a.>",
    ] {
        for (method, verb) in [
            ("POST", "publish"),
            ("POST", "request"),
            ("GET", "subscribe"),
        ] {
            let mut raw = bridge.raw().await;
            let head = format!("{method} /v1/{verb}/");
            let rest = b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
            raw.send([head.as_bytes(), target, rest].concat()).await;
            let answer = raw.response().await.expect("an answer");
            assert_eq!(answer.status, 400, "{verb} {target:?}: {answer:?}");
        }
    }
    let after = messages_at_the_server(&nats).await;
    assert_eq!(before, after, "nothing was sent");
    calm.holds().await;
}
