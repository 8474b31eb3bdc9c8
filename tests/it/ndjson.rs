//! NDJSON, byte by byte.

use crate::harness::{Bridge, Nats, round_trip};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_exact() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut stream = bridge.ndjson("/v1/subscribe/a.*?max=4").await;
    let client = nats.client().await;
    let payloads: [&[u8]; 4] = [b"{\"id\":\n7}", b"a\nb", b"\xff", b"null"];
    for payload in payloads {
        let sent = client.publish("a.b", payload.to_vec().into()).await;
        sent.expect("sent");
    }
    round_trip(&client).await;
    let expected = "{\"subject\":\"a.b\",\"encoding\":\"json\",\"data\":{\"id\": 7}}\n\
        {\"subject\":\"a.b\",\"encoding\":\"text\",\"data\":\"a\\nb\"}\n\
        {\"subject\":\"a.b\",\"encoding\":\"base64\",\"data\":\"/w==\"}\n\
        {\"subject\":\"a.b\",\"encoding\":\"json\",\"data\":null}\n\
        {\"notice\":\"end\",\"reason\":\"max\"}\n";
    assert_eq!(stream.rest().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_sends_blanks_that_are_no_lines() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "streams: { keep_alive: 200ms }").await;
    let mut stream = bridge.ndjson("/v1/subscribe/a?max=1").await;
    for _ in 0..3 {
        assert_eq!(stream.chunk().await.expect("a sign of life"), " ");
    }
    let client = nats.client().await;
    client.publish("a", "1".into()).await.expect("sent");
    round_trip(&client).await;
    let line = stream.json_line().await.expect("blanks are white space");
    assert_eq!(line["data"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_streams_over_http2_and_over_a_unix_socket() {
    let nats = Nats::start().await;
    let bridge = Bridge::builder().nats(&nats).unix_socket().start().await;
    let over_http2 = crate::harness::Client::http2(&bridge.url(""));
    let over_unix = crate::harness::Client::unix(&bridge.socket());
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(over_http2.ndjson("/v1/subscribe/a").await);
    }
    streams.push(over_unix.ndjson("/v1/subscribe/a").await);
    let client = nats.client().await;
    for number in 0..100 {
        client
            .publish("a", number.to_string().into())
            .await
            .expect("sent");
    }
    round_trip(&client).await;
    for stream in &mut streams {
        for number in 0..100 {
            assert_eq!(stream.json_line().await.expect("a line")["data"], number);
        }
    }
}
