//! What JetStream refuses, said by a real server.

use serde_json::json;

use crate::harness::{Answer, Bridge, Nats, SOON, eventually};

async fn store(bridge: &Bridge, subject: &str) -> Answer {
    let path = format!("/v1/publish/{subject}?confirm=stream&timeout=20s");
    bridge.post(&path).body("x").send().await
}

#[tokio::test]
async fn a_full_stream_is_507_until_it_is_purged() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { manage: true }").await;
    for (name, limit) in [
        ("MSGS", json!({"max_msgs": 2, "discard": "new"})),
        ("BYTES", json!({"max_bytes": 100, "discard": "new"})),
        (
            "SUBJECT",
            json!({"max_msgs_per_subject": 2, "discard": "new", "discard_new_per_subject": true}),
        ),
    ] {
        let subject = name.to_lowercase();
        nats.stream(name, &[&subject], limit).await;
        store(&bridge, &subject).await.expect(200);
        let mut last = store(&bridge, &subject).await;
        while last.status == 200 {
            last = store(&bridge, &subject).await;
        }
        let problem = last.expect_problem(507, "stream-full");
        assert_eq!(problem["outcome"], "rejected", "{name}");
        assert_eq!(problem["retryable"], false, "{name}");
        assert_eq!(problem["nats"]["err_code"], 10077, "{name}");
        let purge = bridge.post(&format!("/v1/streams/{name}/purge"));
        purge.send().await.expect(200);
        store(&bridge, &subject).await.expect(200);
    }
}

#[tokio::test]
async fn an_account_that_is_full_is_507_and_one_without_jetstream_501() {
    let accounts = "accounts {
        small { jetstream { max_file: 1000, max_mem: 1000 }, users: [{user: small, password: p}] }
        none { users: [{user: none, password: p}] }
    }";
    let nats = Nats::builder().config(accounts).start().await;
    let as_user = async |user: &str| {
        let url = nats.url().replace("nats://", &format!("nats://{user}:p@"));
        let builder = Bridge::builder().servers(&url);
        builder.yaml("api: { manage: true }").start().await
    };
    let small = as_user("small").await;
    let config = json!({"subjects": ["a"], "storage": "file"});
    let created = small.put("/v1/streams/A").json(&config).send().await;
    created.expect(201);
    let path = "/v1/publish/a?confirm=stream&timeout=20s";
    let publish = async || small.post(path).body("x".repeat(900)).send().await;
    let mut last = publish().await;
    while last.status == 200 {
        last = publish().await;
    }
    last.expect_problem(507, "stream-full");
    let none = as_user("none").await;
    let answer = none.get("/v1/streams").send().await;
    let problem = answer.expect_problem(501, "jetstream-not-enabled");
    assert_eq!(problem["retryable"], false);
    store(&none, "a")
        .await
        .expect_problem(501, "jetstream-not-enabled");
}

#[tokio::test]
async fn a_sealed_stream_is_a_conflict() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { manage: true }").await;
    nats.stream("S", &["s"], json!({})).await;
    let sealed = json!({"subjects": ["s"], "storage": "file", "sealed": true});
    let answer = bridge.put("/v1/streams/S").json(&sealed).send().await;
    answer.expect(200);
    let problem = store(&bridge, "s").await.expect_problem(409, "conflict");
    assert_eq!(problem["nats"]["err_code"], 10109);
    let purge = bridge.post("/v1/streams/S/purge").send().await;
    purge.expect_problem(409, "conflict");
}

#[tokio::test]
async fn a_stream_deleted_meanwhile_is_no_stream_at_once() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s"], json!({})).await;
    store(&bridge, "s").await.expect(200);
    nats.js("STREAM.DELETE.S", &json!({})).await;
    // Well before its timeout of 20 s: the bound of the client is 30 s, that of the test is this.
    let start = tokio::time::Instant::now();
    let problem = store(&bridge, "s").await.expect_problem(404, "no-stream");
    assert_eq!(problem["outcome"], "rejected");
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stream_that_comes_later_is_found_without_a_restart() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    store(&bridge, "s").await.expect_problem(404, "no-stream");
    nats.stream("S", &["s"], json!({})).await;
    store(&bridge, "s").await.expect(200);
}

#[tokio::test]
async fn who_may_not_ask_is_not_told_that_there_is_no_stream() {
    let users = "authorization { users: [
        {user: a, password: p, permissions: {
            publish: [\"s.>\", \"_INBOX_natsway.>\"], subscribe: [\"_INBOX_natsway.>\"]}},
        {user: admin, password: p}
    ] }";
    let nats = Nats::builder().config(users).start().await;
    let url = nats.url().replace("nats://", "nats://a:p@");
    let bridge = Bridge::builder().servers(&url).start().await;
    let path = "/v1/publish/s.a?confirm=stream&timeout=3s";
    let answer = bridge.post(path).body("x").send().await;
    let problem = answer.expect_problem(503, "jetstream-unavailable");
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.contains("$JS.API.STREAM.NAMES"), "{detail}");
    assert_eq!(problem["outcome"], "not_sent");
    for request in [
        bridge.get("/v1/streams"),
        bridge.get("/v1/streams/S/messages/1"),
        bridge.post("/v1/streams/S/consumers/c/fetch"),
    ] {
        let answer = request.send().await;
        answer.expect_problem(403, "nats-permission-denied");
    }
}

#[tokio::test]
async fn jetstream_that_does_not_answer_costs_the_timeout_and_no_more() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { manage: true }").await;
    nats.stream("S", &["s"], json!({})).await;
    nats.pause().await;
    for (request, outcome) in [
        (bridge.get("/v1/streams?timeout=700ms"), "not_sent"),
        (bridge.delete("/v1/streams/S?timeout=700ms"), "unknown"),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.problem()["outcome"], outcome);
    }
    nats.resume();
    bridge.is_connected().await;
    eventually(SOON, "JetStream answers again", async || {
        bridge.get("/v1/streams").send().await.status == 200
    })
    .await;
}

/// The subjects of the table in `docs/jetstream.md`, with `{A,B}` written out.
fn documented_permissions() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/jetstream.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let subjects = words.filter(|word| word.starts_with("$JS."));
    subjects
        .flat_map(|subject| match subject.split_once('{') {
            None => vec![subject.to_owned()],
            Some((before, rest)) => {
                let (names, after) = rest.split_once('}').expect("it is closed");
                let written = |name| format!("{before}{name}{after}");
                names.split(',').map(written).collect()
            }
        })
        .collect()
}

#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let subjects = documented_permissions();
    assert!(subjects.len() > 10, "{subjects:?}");
    let allowed: Vec<String> = subjects.iter().map(|s| format!("{s:?}")).collect();
    let users = format!(
        "authorization {{ users: [
            {{user: a, password: p, permissions: {{
                publish: [\"s.>\", \"_INBOX_natsway.>\", {}], subscribe: [\"_INBOX_natsway.>\"]}}}}
        ] }}",
        allowed.join(", ")
    );
    let nats = Nats::builder().config(&users).start().await;
    let url = nats.url().replace("nats://", "nats://a:p@");
    let builder = Bridge::builder().servers(&url);
    let bridge = builder.yaml("api: { manage: true }").start().await;
    let stream = json!({"subjects": ["s.a"], "storage": "file"});
    let created = bridge.put("/v1/streams/S").json(&stream).send().await;
    created.expect(201);
    let changed = bridge.put("/v1/streams/S").json(&stream).send().await;
    changed.expect(200);
    let consumer = bridge.put("/v1/streams/S/consumers/c");
    let consumer = consumer.body(r#"{"ack_policy":"explicit"}"#).send().await;
    consumer.expect(201);
    store(&bridge, "s.a").await.expect(200);
    store(&bridge, "s.b").await.expect_problem(404, "no-stream");
    for path in [
        "/v1/streams",
        "/v1/streams/S",
        "/v1/streams/S/messages/1",
        "/v1/streams/S/messages/last?subject=s.a",
        "/v1/streams/S/consumers/c",
    ] {
        bridge.get(path).send().await.expect(200);
    }
    let fetched = bridge.post("/v1/streams/S/consumers/c/fetch?wait=20s");
    let fetched = fetched.send().await.expect(200).json();
    let token = fetched["messages"][0]["ack"].as_str().expect("a token");
    let acked = bridge.post(&format!("/v1/acks/{token}")).send().await;
    acked.expect(204);
    let purged = bridge.post("/v1/streams/S/purge").send().await;
    purged.expect(200);
    for path in ["/v1/streams/S/consumers/c", "/v1/streams/S"] {
        bridge.delete(path).send().await.expect(204);
    }
}
