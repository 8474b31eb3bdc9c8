//! The breaker, with responders that die, fall silent or are cut off, and come back.

use std::time::{Duration, Instant};

use crate::harness::faults::Proxy;
use crate::harness::{
    Bridge, Nats, Python, SOON, answer_all, eventually, eventually_some, respond, round_trip,
};

const STOCK: &str = "
routes:
  - name: stock
    match: { method: GET, path: \"/stock/{sku}\" }
    request: { subject: \"stock.{sku}\" }
    timeout: 20s
    breaker: { failures: 3, window: 60s, open_for: 500ms }
";

const RESPONDER: &str = "
async def answer(message):
    await message.respond(b'12')
await nc.subscribe('stock.*', cb=answer)
await ready()
await asyncio.sleep(3600)
";

async fn gauge(bridge: &Bridge) -> f64 {
    let labels = [("route", "stock")];
    bridge.metric("natsway_http_breaker_open", &labels).await
}

/// Asks until the breaker is open, which takes three failures and no more, and then sheds.
async fn opens(bridge: &Bridge, because: &[&str]) {
    for _ in 0..3 {
        let code = bridge.get("/stock/7").send().await.code();
        assert!(because.contains(&code.as_str()), "{code}");
    }
    // At once, unless the machine stood still for as long as the breaker stays open.
    let problem = eventually_some(SOON, "it sheds", async || {
        let answer = bridge.get("/stock/7").send().await;
        (answer.code() == "circuit-open").then_some(answer)
    })
    .await;
    assert!(problem.header("retry-after").is_some());
    let problem = problem.expect_problem(503, "circuit-open");
    assert_eq!(problem["outcome"], "not_sent");
    assert_eq!(problem["retryable"], true);
    assert!(gauge(bridge).await > 0.5);
}

/// What an answer takes while the breaker is open: the median of many, over one connection. Its probes in
/// between are not counted, as they go as far as the responder.
async fn sheds_at_once(bridge: &Bridge) {
    let mut raw = bridge.raw().await;
    let mut took = Vec::new();
    let end = Instant::now() + SOON;
    while took.len() < 300 && Instant::now() < end {
        let start = Instant::now();
        let answer = raw
            .request("GET /stock/7 HTTP/1.1\r\nHost: localhost", b"")
            .await;
        if answer.code().as_deref() == Some("circuit-open") {
            took.push(start.elapsed());
        }
    }
    took.sort_unstable();
    let median = took[took.len() / 2];
    // Far less than a request to a silent responder takes.
    assert!(median < Duration::from_millis(100), "{median:?}");
}

async fn closes(bridge: &Bridge) {
    eventually(SOON, "the breaker closes", async || {
        bridge.get("/stock/7").send().await.status == 200
    })
    .await;
    assert!(gauge(bridge).await < 0.5);
}

async fn stays_closed(bridge: &Bridge) {
    for _ in 0..5 {
        bridge.get("/stock/7").send().await.expect(200);
    }
    assert!(gauge(bridge).await < 0.5);
}

#[tokio::test]
async fn a_responder_that_is_killed_opens_it_and_its_return_closes_it() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, STOCK);
    let (bridge, responder) = tokio::join!(bridge, Python::start(&nats, RESPONDER));
    bridge.get("/stock/7").send().await.expect(200);
    assert!(gauge(&bridge).await < 0.5);
    responder.kill9();
    eventually(SOON, "the server has noticed", async || {
        nats.subscriptions("stock.*").await == 0
    })
    .await;
    opens(&bridge, &["no-responders"]).await;
    sheds_at_once(&bridge).await;
    respond(&nats, "stock.*", "12").await;
    closes(&bridge).await;
    stays_closed(&bridge).await;
}

#[tokio::test]
async fn a_silent_responder_opens_it_and_its_first_word_closes_it() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, &STOCK.replace("20s", "500ms")).await;
    let client = nats.client().await;
    let requests = client.subscribe("stock.*").await.unwrap();
    round_trip(&client).await;
    let start = Instant::now();
    opens(&bridge, &["reply-timeout"]).await;
    assert!(
        start.elapsed() >= Duration::from_millis(1500),
        "three timeouts"
    );
    // An open breaker costs a caller no timeout and the responder no request.
    sheds_at_once(&bridge).await;
    answer_all(client, requests, "12");
    closes(&bridge).await;
}

#[tokio::test]
async fn a_lost_connection_opens_it_and_the_next_one_closes_it() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let bridge = Bridge::builder().servers(&proxy.url()).yaml(STOCK);
    let bridge = bridge.start().await;
    respond(&nats, "stock.*", "12").await;
    bridge.get("/stock/7").send().await.expect(200);
    proxy.cut();
    bridge.is_disconnected().await;
    opens(&bridge, &["nats-disconnected"]).await;
    sheds_at_once(&bridge).await;
    proxy.heal();
    closes(&bridge).await;
    stays_closed(&bridge).await;
}

#[tokio::test]
async fn a_service_that_answers_with_errors_is_alive() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, STOCK).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Service-Error", "out of stock");
    headers.insert("Nats-Service-Error-Code", "503");
    crate::request::service(&nats, "stock.7", vec![(headers, Vec::new())]).await;
    for _ in 0..5 {
        let answer = bridge.get("/stock/7").send().await;
        answer.expect_problem(503, "service-error");
    }
    assert!(gauge(&bridge).await < 0.5);
}
