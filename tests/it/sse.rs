//! Server-sent events, byte by byte.

use serde_json::json;

use crate::harness::{Bridge, Calm, Nats, round_trip};

/// The body so far, once it has come to an end that was asked for.
async fn body(bridge: &Bridge, nats: &Nats, query: &str, messages: &[&[u8]]) -> String {
    let path = format!("/v1/subscribe/a?max={}{query}", messages.len());
    let mut stream = bridge.sse(&path).await;
    let client = nats.client().await;
    for message in messages {
        let sent = client.publish("a", message.to_vec().into()).await;
        sent.expect("sent");
    }
    round_trip(&client).await;
    let body = stream.rest().await.to_vec();
    let body = String::from_utf8(body).expect("an event stream is UTF-8");
    let (messages, end) = body.rsplit_once("retry: ").expect("it ends with a retry");
    let (_millis, end) = end.split_once('\n').expect("a line");
    let expected = "event: end\ndata: {\"notice\":\"end\",\"reason\":\"max\"}\n\n";
    assert_eq!(end, expected);
    messages.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envelopes_are_exact() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let seen = body(
        &bridge,
        &nats,
        "",
        &[b"{\"id\":\r\n7}", b"two\nlines", b"", b"\xff"],
    )
    .await;
    let expected = "id: live\n\n\
        data: {\"subject\":\"a\",\"encoding\":\"json\",\"data\":{\"id\":  7}}\n\n\
        data: {\"subject\":\"a\",\"encoding\":\"text\",\"data\":\"two\\nlines\"}\n\n\
        data: {\"subject\":\"a\",\"encoding\":\"text\",\"data\":\"\"}\n\n\
        data: {\"subject\":\"a\",\"encoding\":\"base64\",\"data\":\"/w==\"}\n\n";
    assert_eq!(seen, expected);
    let seen = body(&bridge, &nats, "&encoding=base64", &[b"7"]).await;
    assert!(
        seen.ends_with("\"encoding\":\"base64\",\"data\":\"Nw==\"}\n\n"),
        "{seen}"
    );
    let seen = body(&bridge, &nats, "&encoding=text", &[b"7"]).await;
    assert!(
        seen.ends_with("\"encoding\":\"text\",\"data\":\"7\"}\n\n"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_are_exact_and_cannot_forge_a_field() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let calm = Calm::before(&nats, &bridge).await;
    let forged: &[u8] = b"x\n\nevent: end\ndata: {\"notice\":\"end\"}\nid: 7\nretry: 1\n\n";
    let seen = body(
        &bridge,
        &nats,
        "&format=raw",
        &[forged, b"", b"a\rb", b"\xff", b"\xef\xbb\xbfx"],
    )
    .await;
    let expected = "id: live\n\n\
        data: x\ndata: \ndata: event: end\ndata: data: {\"notice\":\"end\"}\ndata: id: 7\n\
        data: retry: 1\ndata: \ndata: \n\n\
        data: \n\n\
        event: binary\ndata: YQ1i\n\n\
        event: binary\ndata: /w==\n\n\
        data: \u{feff}x\n\n";
    assert_eq!(seen, expected);
    // And as envelopes, where a line break ends the data line.
    let seen = body(&bridge, &nats, "", &[forged, b"\"a\nevent: end\""]).await;
    let lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    assert!(
        lines[1..].iter().all(|line| line.starts_with("data: {")),
        "{seen}"
    );
    assert_eq!(lines.len(), 3, "{seen}");
    calm.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_a_message_stand_in_its_envelope() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut stream = bridge.sse("/v1/subscribe/a").await;
    let client = nats.client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.append("Order-Id", "7");
    headers.append("Order-Id", "8");
    let sent = client.publish_with_headers("a", headers, "x".into()).await;
    sent.expect("sent");
    round_trip(&client).await;
    let event = stream.event().await.expect("an event").json();
    assert_eq!(
        event,
        json!({"subject": "a", "headers": {"Order-Id": ["7", "8"]}, "encoding": "text", "data": "x"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_here_before_is_told_of_the_gap() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut first = bridge.sse("/v1/subscribe/a").await;
    let id = first
        .block()
        .await
        .expect("the first block")
        .id
        .expect("an id");
    for request in [
        bridge.get("/v1/subscribe/a").header("last-event-id", &id),
        bridge.get("/v1/subscribe/a").query("last_event_id", &id),
    ] {
        let mut again = request.stream().await.expect_ok();
        assert_eq!(
            again.block().await.expect("a block").id.as_deref(),
            Some(&*id)
        );
        let gap = again.event().await.expect("the gap");
        assert_eq!(gap.event.as_deref(), Some("gap"));
        assert_eq!(
            gap.json(),
            json!({"notice": "gap", "dropped": null, "reason": "client-reconnected"})
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_sends_comments() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 200ms }").await;
    let mut stream = bridge.sse("/v1/subscribe/a").await;
    assert_eq!(
        stream.chunk().await.expect("the first block"),
        "id: live\n\n"
    );
    for _ in 0..3 {
        assert_eq!(
            stream.chunk().await.expect("a sign of life"),
            ": keep-alive\n\n"
        );
    }
}
