//! `/v1/streams`: what is there, what may be seen, what may be changed.

use serde_json::{Value, json};

use crate::harness::{Bridge, Nats};

const MANAGE: &str = "api: { manage: true }";

fn names(list: &Value) -> Vec<&str> {
    let streams = list["streams"].as_array().expect("a list");
    let names = streams.iter().map(|stream| stream["name"].as_str());
    names.map(|name| name.expect("a name")).collect()
}

#[tokio::test]
async fn a_stream_is_created_changed_looked_at_purged_and_deleted() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, MANAGE).await;
    let config = json!({"subjects": ["orders.>"], "storage": "file", "max_msgs": 5});
    let created = bridge.put("/v1/streams/ORDERS").json(&config);
    let created = created.send().await.expect(201).json();
    assert_eq!(created["config"]["name"], "ORDERS");
    assert_eq!(created["config"]["max_msgs"], 5);
    assert!(created.get("ignored").is_none(), "{created}");

    let config = json!({"name": "ORDERS", "subjects": ["orders.>"], "max_msgs": 9});
    let changed = bridge.put("/v1/streams/ORDERS").json(&config);
    let changed = changed.send().await.expect(200).json();
    assert_eq!(changed["config"]["max_msgs"], 9);

    nats.store_many("orders.eu", ["1".to_owned(), "2".to_owned()])
        .await;
    let found = bridge.get("/v1/streams/ORDERS").send().await.expect(200);
    let found = found.json();
    assert_eq!(found["state"]["messages"], 2);
    assert_eq!(found["config"]["subjects"], json!(["orders.>"]));

    let purged = bridge.post("/v1/streams/ORDERS/purge").send().await;
    assert_eq!(purged.expect(200).json(), json!({"purged": 2}));
    assert_eq!(nats.stream_state("ORDERS").await["messages"], 0);

    bridge.delete("/v1/streams/ORDERS").send().await.expect(204);
    for request in [
        bridge.get("/v1/streams/ORDERS"),
        bridge.delete("/v1/streams/ORDERS"),
        bridge.post("/v1/streams/ORDERS/purge"),
    ] {
        request.send().await.expect_problem(404, "stream-not-found");
    }
}

#[tokio::test]
async fn what_is_sent_is_not_silently_dropped() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, MANAGE).await;
    // A server from 2.12 on is strict and refuses what it does not know; an older one drops it.
    let is_strict = nats.client().await.is_server_compatible(2, 12, 0);
    let stream = json!({"subjects": ["a"], "from_the_future": {"deep": true}, "sealed": false});
    let stream = bridge.put("/v1/streams/A").json(&stream).send().await;
    if is_strict {
        let problem = stream.expect_problem(400, "invalid-body");
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains("from_the_future"), "{detail}");
        return;
    }
    let stream = stream.expect(201).json();
    assert_eq!(stream["ignored"], json!(["from_the_future"]));
    let consumer = json!({"ack_policy": "explicit", "from_the_future": 1});
    let consumer = bridge.put("/v1/streams/A/consumers/c").json(&consumer);
    let consumer = consumer.send().await.expect(201).json();
    assert_eq!(consumer["ignored"], json!(["from_the_future"]));
}

#[tokio::test]
async fn a_configuration_that_is_wrong_says_what_is_wrong() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, MANAGE).await;
    nats.stream("A", &["a.>"], json!({})).await;
    for (name, body, status, code) in [
        ("B", "[]", 400, "invalid-body"),
        ("B", "", 400, "invalid-body"),
        ("B", r#"{"name":"C"}"#, 400, "invalid-body"),
        ("B", r#"{"Subjects":["b"]}"#, 400, "invalid-body"),
        ("B", r#"{"subjects":7}"#, 400, "invalid-body"),
        ("B", r#"{"subjects":["a.x"]}"#, 409, "conflict"),
        (
            "B",
            r#"{"subjects":["b"],"num_replicas":3}"#,
            409,
            "conflict",
        ),
        (
            "A",
            r#"{"subjects":["a.>"],"storage":"memory"}"#,
            409,
            "conflict",
        ),
        (
            "B",
            r#"{"subjects":["b"],"duplicate_window":9000000000,"max_age":1000000000}"#,
            400,
            "invalid-body",
        ),
        ("a.b", "{}", 400, "invalid-parameter"),
        ("a%20b", "{}", 400, "invalid-parameter"),
        ("KV_b", "{}", 403, "subject-not-allowed"),
    ] {
        let request = bridge.put(&format!("/v1/streams/{name}")).body(body);
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{name} {body}: {}", answer.text());
        assert_eq!(answer.code(), code, "{name} {body}");
    }
}

#[tokio::test]
async fn nothing_is_changed_without_manage() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("A", &["a"], json!({})).await;
    nats.consumer("A", "c", json!({})).await;
    for request in [
        bridge.put("/v1/streams/A").body("{}"),
        bridge.delete("/v1/streams/A"),
        bridge.post("/v1/streams/A/purge"),
        bridge.put("/v1/streams/A/consumers/c").body("{}"),
        bridge.delete("/v1/streams/A/consumers/c"),
    ] {
        let problem = request
            .send()
            .await
            .expect_problem(403, "management-disabled");
        assert_eq!(problem["outcome"], "not_sent");
    }
    bridge.get("/v1/streams/A").send().await.expect(200);
    let consumer = bridge.get("/v1/streams/A/consumers/c").send().await;
    assert_eq!(consumer.expect(200).json()["config"]["durable_name"], "c");
}

#[tokio::test]
async fn a_caller_sees_the_streams_that_it_may_read() {
    let nats = Nats::start().await;
    let yaml = "api: { manage: true, jetstream: { subjects: { allow: [orders.>], deny: [orders.secret] } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    nats.stream("ORDERS", &["orders.*"], json!({})).await;
    nats.stream("PUBLIC", &["orders.eu.>"], json!({})).await;
    nats.stream("STOCK", &["stock"], json!({})).await;
    nats.stream("KV_orders", &["orders.bucket.kv"], json!({}))
        .await;
    let list = bridge.get("/v1/streams").send().await.expect(200).json();
    assert_eq!(names(&list), ["ORDERS", "PUBLIC"]);
    bridge.get("/v1/streams/ORDERS").send().await.expect(200);
    for path in [
        "/v1/streams/STOCK",
        "/v1/streams/KV_orders",
        "/v1/streams/$KV",
        "/v1/streams/OBJ_x/messages/1",
        "/v1/streams/KV_orders/messages/last?subject=orders.bucket.kv",
        "/v1/streams/KV_orders/consumers/c",
    ] {
        let answer = bridge.get(path).send().await;
        answer.expect_problem(403, "subject-not-allowed");
    }
    // A consumer may not filter more than may be read, be it by having no filter.
    for (stream, filter, status) in [
        ("PUBLIC", json!({}), 201),
        ("ORDERS", json!({}), 403),
        ("ORDERS", json!({"filter_subject": "orders.>"}), 403),
        (
            "ORDERS",
            json!({"filter_subjects": ["orders.a", "orders.secret"]}),
            403,
        ),
        (
            "ORDERS",
            json!({"filter_subjects": ["orders.a", "orders.b"]}),
            201,
        ),
        ("STOCK", json!({"filter_subject": "stock"}), 403),
    ] {
        let path = format!("/v1/streams/{stream}/consumers/c");
        let answer = bridge.put(&path).json(&filter).send().await;
        assert_eq!(
            answer.status,
            status,
            "{stream} {filter}: {}",
            answer.text()
        );
    }
    // One that was made elsewhere can neither be looked at nor fetched from.
    nats.consumer("ORDERS", "all", json!({})).await;
    let answer = bridge.get("/v1/streams/ORDERS/consumers/all").send().await;
    answer.expect_problem(403, "subject-not-allowed");
    let fetch = bridge.post("/v1/streams/ORDERS/consumers/all/fetch?wait=0s");
    fetch
        .send()
        .await
        .expect_problem(403, "subject-not-allowed");
}

#[tokio::test]
async fn the_list_is_whole_however_long_it_is() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let client = nats.client().await;
    for number in 0..300 {
        let config = json!({"name": format!("S{number:03}"), "subjects": [format!("s.{number}")],
            "storage": "memory"});
        let subject = format!("$JS.API.STREAM.CREATE.S{number:03}");
        let payload = serde_json::to_vec(&config).expect("JSON").into();
        client.request(subject, payload).await.expect("an answer");
    }
    let list = bridge.get("/v1/streams").send().await.expect(200).json();
    let names = names(&list);
    assert_eq!(names.len(), 300);
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), 300);
}

#[tokio::test]
async fn head_is_answered_on_streams() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("A", &["a"], json!({})).await;
    nats.store("a", "x").await;
    for path in ["/v1/streams", "/v1/streams/A", "/v1/streams/A/messages/1"] {
        let head = bridge.client().request(reqwest::Method::HEAD, path);
        let answer = head.send().await.expect(200);
        assert!(answer.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn consumers_are_created_changed_and_deleted() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, MANAGE).await;
    nats.stream("A", &["a.>"], json!({})).await;
    let path = "/v1/streams/A/consumers/worker";
    let config =
        json!({"ack_policy": "explicit", "filter_subject": "a.b", "ack_wait": 5_000_000_000_u64});
    let created = bridge
        .put(path)
        .json(&config)
        .send()
        .await
        .expect(201)
        .json();
    assert_eq!(created["config"]["durable_name"], "worker");
    assert_eq!(created["config"]["ack_wait"], 5_000_000_000_u64);
    assert_eq!(created["state"]["num_pending"], 0);
    let config = json!({"ack_policy": "explicit", "filter_subject": "a.b", "ack_wait": 7_000_000_000_u64,
        "durable_name": "worker"});
    let changed = bridge
        .put(path)
        .json(&config)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(changed["config"]["ack_wait"], 7_000_000_000_u64);
    for (body, status, code) in [
        (
            json!({"ack_policy": "none", "filter_subject": "a.b"}),
            409,
            "conflict",
        ),
        (json!({"durable_name": "other"}), 400, "invalid-body"),
        (json!({"deliver_subject": "somewhere"}), 400, "invalid-body"),
        (json!({"Deliver_Subject": "somewhere"}), 400, "invalid-body"),
        (json!({"ack_policy": "perhaps"}), 400, "invalid-body"),
    ] {
        let answer = bridge.put(path).json(&body).send().await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}: {}",
            answer.text()
        );
    }
    let missing = bridge.get("/v1/streams/A/consumers/none").send().await;
    missing.expect_problem(404, "consumer-not-found");
    let missing = bridge.get("/v1/streams/NONE/consumers/none").send().await;
    missing.expect_problem(404, "stream-not-found");
    let missing = bridge
        .put("/v1/streams/NONE/consumers/none")
        .body("{}")
        .send()
        .await;
    missing.expect_problem(404, "stream-not-found");
    bridge.delete(path).send().await.expect(204);
    let again = bridge.delete(path).send().await;
    again.expect_problem(404, "consumer-not-found");
}

#[tokio::test]
async fn without_jetstream_there_is_501() {
    let nats = Nats::builder().without_jetstream().start().await;
    let bridge = Bridge::start(&nats, MANAGE).await;
    for request in [
        bridge.get("/v1/streams"),
        bridge.get("/v1/streams/A"),
        bridge.put("/v1/streams/A").body("{}"),
        bridge.post("/v1/streams/A/consumers/c/fetch"),
    ] {
        request
            .send()
            .await
            .expect_problem(501, "jetstream-not-enabled");
    }
}

#[tokio::test]
async fn without_nats_there_is_503_at_once() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, MANAGE).await;
    nats.kill9();
    bridge.is_disconnected().await;
    for request in [
        bridge.get("/v1/streams"),
        bridge.put("/v1/streams/A").body("{}"),
        bridge.post("/v1/streams/A/consumers/c/fetch"),
    ] {
        let problem = request
            .send()
            .await
            .expect_problem(503, "nats-disconnected");
        assert_eq!(problem["outcome"], "not_sent");
        assert_eq!(problem["retryable"], true);
    }
}

#[tokio::test]
async fn streams_behind_buckets_are_closed_for_everything() {
    let nats = Nats::start().await;
    let yaml = "api: { manage: true, jetstream: { subjects: { allow: ['>', '$KV.>', '$O.>'] } } }";
    let bridge = Bridge::start(&nats, yaml).await;
    for (stream, subject) in [("KV_b", "$KV.b.>"), ("OBJ_b", "$O.b.>")] {
        nats.stream(stream, &[subject], json!({"allow_rollup_hdrs": true}))
            .await;
        nats.consumer(stream, "c", json!({})).await;
        nats.store(&subject.replace('>', "k"), "x").await;
        let at = |rest: &str| format!("/v1/streams/{stream}{rest}");
        for request in [
            bridge.get(&at("")),
            bridge.put(&at("")).body("{}"),
            bridge.delete(&at("")),
            bridge.post(&at("/purge")),
            bridge.get(&at("/messages/1")),
            bridge.get(&at("/subscribe?from=all")),
            bridge.get(&at("/consumers/c")),
            bridge.put(&at("/consumers/c")).body("{}"),
            bridge.delete(&at("/consumers/c")),
            bridge.post(&at("/consumers/c/fetch")),
        ] {
            let answer = request.send().await;
            answer.expect_problem(403, "subject-not-allowed");
        }
        assert_eq!(nats.stream_state(stream).await["messages"], 1);
        let info = nats.consumer_info(stream, "c").await;
        assert_eq!(info["num_ack_pending"], 0, "nothing was fetched");
    }
}
