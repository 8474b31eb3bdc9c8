//! What differs between the supported releases of nats-server. `make test-matrix` runs all of the
//! tests on each of them; here stands what must differ.

use serde_json::json;

use crate::harness::{Bridge, Nats};

async fn is_at_least(nats: &Nats, major: i64, minor: i64) -> bool {
    nats.client().await.is_server_compatible(major, minor, 0)
}

#[tokio::test]
async fn the_server_is_one_that_is_supported() {
    let nats = Nats::start().await;
    let version = nats.client().await.server_info().version;
    assert!(is_at_least(&nats, 2, 10).await, "{version}");
}

#[tokio::test]
async fn a_time_to_live_needs_2_11_and_is_never_dropped_silently() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { manage: true }").await;
    let config = json!({"subjects": ["s"], "allow_msg_ttl": true});
    let created = bridge.put("/v1/streams/S").json(&config).send().await;
    let created = created.expect(201).json();
    let publish = bridge
        .post("/v1/publish/s?confirm=stream&ttl=60s")
        .body("x");
    let answer = publish.send().await;
    if is_at_least(&nats, 2, 11).await {
        assert!(created.get("ignored").is_none(), "{created}");
        answer.expect(200);
        return;
    }
    assert_eq!(created["ignored"], json!(["allow_msg_ttl"]));
    let problem = answer.expect_problem(501, "not-supported");
    assert_eq!(problem["limit"], "2.11");
    assert!(
        problem["current"]
            .as_str()
            .is_some_and(|v| v.starts_with("2.10."))
    );
    assert_eq!(nats.stream_state("S").await["messages"], 0);
}

#[tokio::test]
async fn members_of_later_releases_are_named_where_they_are_dropped() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "api: { manage: true }").await;
    // The member, and the release it came with.
    for (member, minor) in [
        ("allow_msg_ttl", 11),
        ("allow_msg_counter", 12),
        ("allow_atomic", 12),
        ("allow_msg_schedules", 12),
    ] {
        let name = member.to_uppercase();
        let config = json!({"subjects": [member], member: true});
        let created = bridge.put(&format!("/v1/streams/{name}")).json(&config);
        let created = created.send().await.expect(201).json();
        if is_at_least(&nats, 2, minor).await {
            assert_eq!(created["config"][member], true, "{member}");
            assert!(created.get("ignored").is_none(), "{created}");
        } else {
            assert_eq!(created["ignored"], json!([member]));
        }
    }
}

#[tokio::test]
async fn a_missing_consumer_is_404_on_every_release() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s"], json!({})).await;
    let fetch = bridge.post("/v1/streams/S/consumers/none/fetch?wait=25s");
    fetch.send().await.expect_problem(404, "consumer-not-found");
}

#[tokio::test]
async fn nothing_to_fetch_is_an_empty_list_on_every_release() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    nats.stream("S", &["s"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    for wait in ["0s", "100ms", "1s"] {
        let path = format!("/v1/streams/S/consumers/c/fetch?wait={wait}");
        let answer = bridge.post(&path).send().await.expect(200);
        assert_eq!(answer.json(), json!({"messages": []}), "{wait}");
    }
    assert_eq!(nats.consumer_info("S", "c").await["num_waiting"], 0);
}
