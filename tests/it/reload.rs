//! Another configuration while natsway runs: what is under way ends as it began, what comes next meets the
//! new rules, and what is counted goes on being counted.

mod settings;
mod under_way;

use futures_util::StreamExt as _;

use crate::harness::{Bridge, Nats, SOON, eventually, round_trip, within};

fn stock(breaker: &str, more: &str) -> String {
    format!(
        "routes:
  - name: stock
    match: {{ method: GET, path: \"/stock/{{sku}}\" }}
    request: {{ subject: \"stock.{{sku}}\" }}
    {breaker}
{more}"
    )
}

async fn stock_says(bridge: &Bridge, code: &str) {
    let answer = bridge.get("/stock/7").send().await;
    answer.expect_problem(503, code);
}

async fn shows(bridge: &Bridge, open: bool) {
    let labels = [("route", "stock")];
    let shown = bridge.metric("natsway_http_breaker_open", &labels).await;
    assert_eq!(shown > 0.5, open);
}

#[tokio::test]
async fn a_breaker_goes_on_while_its_settings_are_the_same() {
    let nats = Nats::start().await;
    let breaker = "breaker: { failures: 3, window: 60s, open_for: 60s }";
    let bridge = Bridge::start(&nats, &stock(breaker, "")).await;
    for _ in 0..2 {
        stock_says(&bridge, "no-responders").await;
    }
    let other = "    timeout: 3s\n";
    bridge.reload(&stock(breaker, other)).await;
    // The third failure of three, two of which were before.
    stock_says(&bridge, "no-responders").await;
    stock_says(&bridge, "circuit-open").await;
    shows(&bridge, true).await;
    bridge.reload(&stock(breaker, "")).await;
    stock_says(&bridge, "circuit-open").await;
    shows(&bridge, true).await;
    // A wrong file changes nothing, not even for the one after it.
    std::fs::write(bridge.config_file(), "routes: 1").unwrap();
    let before = bridge.reloads("rejected").await;
    bridge.signal(libc::SIGHUP);
    eventually(SOON, "the file is refused", async || {
        bridge.reloads("rejected").await > before
    })
    .await;
    bridge.reload(&stock(breaker, other)).await;
    stock_says(&bridge, "circuit-open").await;
    shows(&bridge, true).await;
}

#[tokio::test]
async fn another_breaker_begins_closed_and_the_gauge_tells_the_truth() {
    let nats = Nats::start().await;
    let settings = |failures: u32| {
        let breaker = format!("breaker: {{ failures: {failures}, window: 60s, open_for: 60s }}");
        stock(&breaker, "")
    };
    let bridge = Bridge::start(&nats, &settings(1)).await;
    stock_says(&bridge, "no-responders").await;
    shows(&bridge, true).await;
    bridge.reload(&settings(2)).await;
    shows(&bridge, false).await;
    for code in ["no-responders", "no-responders", "circuit-open"] {
        stock_says(&bridge, code).await;
    }
    shows(&bridge, true).await;
    bridge.reload(&stock("", "")).await;
    shows(&bridge, false).await;
    stock_says(&bridge, "no-responders").await;
    bridge.reload(&settings(1)).await;
    stock_says(&bridge, "no-responders").await;
    shows(&bridge, true).await;
    bridge.reload("routes: []").await;
    shows(&bridge, false).await;
}

fn work(limit: u32, timeout: &str) -> String {
    format!(
        "routes:
  - name: work
    match: {{ method: POST, path: /work }}
    request: {{ subject: work }}
    timeout: {timeout}
    concurrency: {{ limit: {limit}, queue: 0 }}
"
    )
}

#[tokio::test]
async fn places_are_taken_over_a_reload_whatever_the_limit_becomes() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, &work(1, "25s")).await;
    let client = nats.client().await;
    let mut requests = client.subscribe("work").await.unwrap();
    round_trip(&client).await;
    let begin = || tokio::spawn(bridge.post("/work").send());
    let shed = async || {
        let problem = bridge.post("/work").send().await;
        problem.expect_problem(503, "overloaded")
    };
    let first = begin();
    let first_request = within(SOON, "a request", requests.next()).await.unwrap();
    bridge.reload(&work(1, "24s")).await;
    shed().await;
    bridge.reload(&work(2, "24s")).await;
    let second = begin();
    let second_request = within(SOON, "a request", requests.next()).await.unwrap();
    shed().await;
    // Two run where one may: it takes the end of both before the next may.
    bridge.reload(&work(1, "24s")).await;
    assert_eq!(shed().await["limit"], 1);
    let answer = async |request: async_nats::Message| {
        let reply = request.reply.unwrap();
        client.publish(reply, "done".into()).await.unwrap();
    };
    answer(first_request).await;
    first.await.unwrap().expect(200);
    shed().await;
    answer(second_request).await;
    second.await.unwrap().expect(200);
    let third = begin();
    let third_request = within(SOON, "a request", requests.next()).await.unwrap();
    shed().await;
    answer(third_request).await;
    third.await.unwrap().expect(200);
}

#[tokio::test]
async fn an_open_stream_keeps_its_place_over_a_reload_even_of_a_route_that_was_away() {
    let nats = Nats::start().await;
    let feed = |more: &str| {
        format!(
            "routes:
  - name: feed
    match: {{ path: /feed }}
    subscribe: {{ subjects: [feed] }}
    concurrency: {{ limit: 1 }}
{more}"
        )
    };
    let bridge = Bridge::start(&nats, &feed("")).await;
    let mut open = bridge.sse("/feed").await;
    let full = async || {
        let second = bridge.get("/feed").send().await;
        second.expect_problem(503, "overloaded");
    };
    bridge.reload(&feed("    timeout: 3s\n")).await;
    full().await;
    bridge.reload("routes: []").await;
    bridge.get("/feed").send().await.expect(404);
    bridge.reload(&feed("")).await;
    full().await;
    let client = nats.client().await;
    client.publish("feed", "1".into()).await.unwrap();
    round_trip(&client).await;
    assert_eq!(open.event().await.unwrap().json()["data"], 1);
    drop(open);
    eventually(SOON, "the place is free", async || {
        bridge.get("/feed").stream().await.status == 200
    })
    .await;
}
