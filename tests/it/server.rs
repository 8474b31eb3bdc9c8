//! The accept loop: addresses, timers, the cap, and clients that do not behave.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::raw_http::Connection;
use crate::harness::{Bridge, Client, Nats, SOON, eventually, soak, within};

const PAGE: &str = "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How long a connection took to be closed by natsway while the client sends `bytes`, one each `every`.
async fn closed_after(address: &str, bytes: &[u8], every: Duration) -> Duration {
    let start = Instant::now();
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let dribble = async {
        for byte in bytes {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(every).await;
        }
        std::future::pending::<()>().await;
    };
    let closed = async {
        let mut answer = Vec::new();
        // A reset is a close, too.
        let _ = read.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    };
    within(SOON, "the connection is closed", async {
        tokio::select! { () = dribble => {}, () = closed => {} }
    })
    .await;
    start.elapsed()
}

const HASTY: &str = "http: { header_timeout: 1s, idle_timeout: 75s }";

#[tokio::test]
async fn a_silent_connection_is_closed_on_time() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, HASTY).await;
    let took = closed_after(bridge.address(), b"", Duration::ZERO).await;
    assert!(took >= Duration::from_millis(950), "{took:?}");
}

#[tokio::test]
async fn dribbled_heads_are_closed_on_time_in_both_protocols() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, HASTY).await;
    let every = Duration::from_millis(100);
    let heads = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        PAGE.as_bytes().to_vec(),
        b"GET /".repeat(100),
    ];
    for head in heads {
        let start = Instant::now();
        let took = closed_after(bridge.address(), &head, every).await;
        assert!(took >= Duration::from_millis(950), "{took:?}");
        // The bound is the point: were each byte to extend it, all these would take longer.
        assert!(
            start.elapsed() < Duration::from_millis(100) * 24 * 6,
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_and_is_reused() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, HASTY).await;
    let mut raw = bridge.raw().await;
    raw.send(PAGE).await;
    assert_eq!(raw.response().await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_secs(soak(3, 60))).await;
    raw.send(PAGE).await;
    assert_eq!(raw.response().await.unwrap().status, 200);
    // But the next head has a limit again.
    let start = Instant::now();
    raw.send("GET /v1").await;
    assert!(raw.until_closed().await.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(950));
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let nats = Nats::start().await;
    let yaml = "http: { header_timeout: 20s, idle_timeout: 1s }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut raw = bridge.raw().await;
    raw.send(PAGE).await;
    assert_eq!(raw.response().await.unwrap().status, 200);
    let start = Instant::now();
    assert!(raw.until_closed().await.is_empty());
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(15),
        "{took:?}"
    );
}

#[tokio::test]
async fn timers_can_be_reloaded() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "http: { header_timeout: 300s }").await;
    std::fs::write(bridge.config_file(), HASTY).unwrap();
    bridge.signal(libc::SIGHUP);
    bridge.logs("configuration reloaded").await;
    closed_after(bridge.address(), b"G", Duration::ZERO).await;
}

#[tokio::test]
async fn both_protocols_and_a_unix_socket_are_served() {
    let nats = Nats::start().await;
    let bridge = Bridge::builder().nats(&nats).unix_socket().start().await;
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(bridge.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let clients = [
        bridge.client(),
        Client::http2(&bridge.url("")),
        Client::unix(&bridge.socket()),
    ];
    for client in clients {
        client.get("/v1/openapi.json").send().await.expect(200);
        client
            .get("/nowhere")
            .send()
            .await
            .expect_problem(404, "not-found");
    }
    // Whoever reaches the socket is no browser: no Host check.
    let mut raw = Connection::unix(&bridge.socket()).await;
    raw.send("GET /v1/openapi.json HTTP/1.1\r\nHost: anything\r\n\r\n")
        .await;
    assert_eq!(raw.response().await.unwrap().status, 200);
    let socket = bridge.socket();
    bridge.sigterm();
    assert!(bridge.wait_exit(SOON).await.success());
    assert!(!socket.exists());
}

#[tokio::test]
async fn an_offer_of_http2_by_upgrade_is_ignored() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut raw = bridge.raw().await;
    // As `curl --http2` asks every server of plain HTTP.
    let offer = "Host: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for (line, body, status) in [
        ("POST /v1/publish/a HTTP/1.1", &b"x"[..], 204),
        ("POST /v1/request/nobody HTTP/1.1", b"x", 503),
        ("GET /v1/openapi.json HTTP/1.1", b"", 200),
    ] {
        let answer = raw.request(&format!("{line}\r\n{offer}"), body).await;
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.header("upgrade"), None, "{line}");
    }
    raw.send(format!("GET /v1/subscribe/a HTTP/1.1\r\n{offer}\r\n"))
        .await;
    let head = raw.head().await.unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let nats = Nats::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("natsway.sock");
    let yaml = format!(
        "listen: {{ data: [\"unix:{}\"], admin: \"127.0.0.1:0\" }}",
        path.display()
    );
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bridge = Bridge::start(&nats, &yaml).await;
    Client::unix(&path)
        .get("/v1/openapi.json")
        .send()
        .await
        .expect(200);
    let (status, said) = Bridge::builder().nats(&nats).yaml(&yaml).run().await;
    assert!(!status.success());
    assert!(
        said.contains("natsway.sock: another process does"),
        "{said}"
    );
    bridge.kill9();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "not a socket").unwrap();
    let (status, said) = Bridge::builder().nats(&nats).yaml(&yaml).run().await;
    assert!(!status.success());
    assert!(said.contains("not a socket"), "{said}");
}

#[tokio::test]
async fn a_taken_port_is_one_sentence_with_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let yaml = format!("listen: {{ data: [\"{address}\"], admin: \"127.0.0.1:0\" }}");
    let (status, said) = Bridge::builder().yaml(&yaml).run().await;
    assert_eq!(status.code(), Some(1));
    let sentence = said.lines().last().unwrap();
    assert!(
        sentence.contains(&address) && sentence.contains("another process"),
        "{said}"
    );
}

#[tokio::test]
async fn beyond_the_cap_connections_wait_and_are_served_when_there_is_a_place() {
    let nats = Nats::start().await;
    let yaml = "http: { connections_max: 2 }\napi: { subscribe: { streams_max: 1 } }";
    let bridge = Bridge::start(&nats, yaml).await;
    let mut first = bridge.raw().await;
    let mut second = bridge.raw().await;
    for raw in [&mut first, &mut second] {
        raw.send(PAGE).await;
        assert_eq!(raw.response().await.unwrap().status, 200);
    }
    let mut third = bridge.raw().await;
    third.send(PAGE).await;
    let mut answer = std::pin::pin!(third.response());
    let early = tokio::time::timeout(Duration::from_millis(300), answer.as_mut()).await;
    assert!(early.is_err(), "served beyond the cap");
    // The admin listener has places of its own.
    assert_eq!(bridge.admin_get("/livez").await.0, 200);
    drop(first);
    assert_eq!(answer.await.unwrap().status, 200);
}

#[tokio::test]
async fn what_the_parser_refuses_closes_only_that_connection() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut good = bridge.raw().await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X-A: b\r\n".repeat(150)
    );
    for (head, status) in [
        (long.as_str(), 431),
        (many.as_str(), 431),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        ("GET /v1/subscribe/a.> HTTP/9.9\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
    ] {
        let mut raw = bridge.raw().await;
        raw.send(head).await;
        let answer = raw.response().await.unwrap();
        assert_eq!(answer.status, status, "{}", &head[..head.len().min(60)]);
        raw.until_closed().await;
    }
    good.send(PAGE).await;
    assert_eq!(good.response().await.unwrap().status, 200);
    eventually(SOON, "only the good connection is open", async || {
        let (_, metrics) = bridge.admin_get("/metrics").await;
        metrics.contains("natsway_http_connections{listener=\"data\"} 1\n")
    })
    .await;
}

#[tokio::test]
async fn dribbling_connections_are_closed_and_leave_nothing_behind() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "http: { header_timeout: 2s }").await;
    let before = bridge.fds();
    let mut crowd = Vec::new();
    for _ in 0..500 {
        let mut socket = TcpStream::connect(bridge.address()).await.unwrap();
        let _ = socket.write_all(b"GET / HT").await;
        crowd.push(socket);
    }
    bridge.get("/v1/openapi.json").send().await.expect(200);
    for mut socket in crowd {
        let mut rest = Vec::new();
        let read = socket.read_to_end(&mut rest);
        let _ = within(Duration::from_secs(60), "a dribbler is closed", read).await;
    }
    eventually(SOON, "file descriptors return to their count", async || {
        bridge.fds() <= before + 2
    })
    .await;
}
