//! How many, how often, how long.

use tokio::time::advance;

use super::*;
use crate::config::{Breaker, Rate};

#[tokio::test(start_paused = true)]
async fn at_the_limit_one_waits_until_its_deadline_and_the_next_is_shed_at_once() {
    for kind in [KINDS[0], KINDS[1]] {
        let house = House::new();
        let router = house.router(kind, policy());
        let first = tokio::spawn(router.answer(request(kind).into()));
        settle().await;
        let start = Instant::now();
        let waiting = tokio::spawn(router.answer(request(kind).into()));
        settle().await;
        let shed = send(&router, request(kind)).await;
        assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(shed.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(code(shed).await, "overloaded");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(code(waiting.await.unwrap()).await, "overloaded");
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(house.entered(), 1);
        house.go.add_permits(1);
        assert_eq!(code(first.await.unwrap()).await, "200");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_as_long_as_the_request_says() {
    let house = House::new();
    let router = house.router(Kind::Unary, policy());
    let _first = tokio::spawn(router.answer(request(Kind::Unary).into()));
    settle().await;
    let start = Instant::now();
    let hasty = Request::post("/?timeout=300ms")
        .body(Body::empty())
        .unwrap();
    assert_eq!(code(send(&router, hasty).await).await, "overloaded");
    assert_eq!(start.elapsed(), Duration::from_millis(300));
    let greedy = Request::post("/?timeout=5s").body(Body::empty()).unwrap();
    assert_eq!(code(send(&router, greedy).await).await, "invalid-parameter");
}

#[tokio::test(start_paused = true)]
async fn a_stream_at_the_limit_is_shed_at_once() {
    let house = House::new();
    let router = house.router(Kind::Stream, policy());
    house.go.add_permits(5);
    let open = send(&router, request(Kind::Stream)).await;
    let start = Instant::now();
    assert_eq!(
        code(send(&router, request(Kind::Stream)).await).await,
        "overloaded"
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(open);
    assert_eq!(send(&router, request(Kind::Stream)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn streams_of_the_process_are_counted_over_routes_and_told_apart() {
    let house = House::new();
    house.shared.streams.set_max(1);
    house.go.add_permits(5);
    let (one, other) = (
        house.router(Kind::Stream, policy()),
        house.router(Kind::Stream, policy()),
    );
    let open = send(&one, request(Kind::Stream)).await;
    let refused = send(&other, request(Kind::Stream)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(code(refused).await, "too-many-streams");
    drop(open);
    assert_eq!(send(&other, request(Kind::Stream)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_when_the_client_goes_away_or_the_answer_ends() {
    for kind in KINDS {
        let house = House::new();
        let router = house.router(kind, policy());
        let gone = tokio::spawn(router.answer(request(kind).into()));
        settle().await;
        assert_eq!(house.entered(), 1);
        gone.abort();
        let _ = gone.await;
        house.go.add_permits(2);
        let mut response = send(&router, request(kind)).await;
        assert_eq!(response.status(), 200, "{kind:?}");
        response.body_mut().frame().await.unwrap().unwrap();
        drop(response);
        assert_eq!(send(&router, request(kind)).await.status(), 200, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_still_waits_when_grace_is_over_is_answered() {
    for kind in KINDS {
        let house = House::new();
        let router = house.router(kind, policy());
        let running = tokio::spawn(router.answer(request(kind).into()));
        settle().await;
        house.lifecycle.start_draining();
        settle().await;
        assert!(!running.is_finished());
        house.lifecycle.expire();
        let response = running.await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem["code"], "shutting-down", "{kind:?}");
        assert_eq!(problem["outcome"], "unknown", "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_on_every_kind_of_route() {
    for kind in KINDS {
        let house = House::new();
        house.go.add_permits(10);
        let rate = Rate {
            limit: "1/h".parse().unwrap(),
            burst: Some(2),
            key: "route".parse().unwrap(),
        };
        let policy = Policy {
            rate: Some(rate),
            concurrency: Concurrency { limit: 5, queue: 0 },
            ..policy()
        };
        let router = house.router(kind, policy);
        for left in ["1", "0"] {
            let response = send(&router, request(kind)).await;
            assert_eq!(response.status(), 200);
            let state = response.headers()["ratelimit"].to_str().unwrap();
            assert!(state.contains(&format!("r={left}")), "{state}");
        }
        let refused = send(&router, request(kind)).await;
        assert_eq!(refused.status(), 429);
        let seconds = refused.headers()[header::RETRY_AFTER].to_str().unwrap();
        assert!(seconds.parse::<u64>().unwrap() > 3000, "{seconds}");
        assert_eq!(
            refused.headers()["ratelimit-policy"],
            "\"route\";q=1;w=3600"
        );
        assert_eq!(code(refused).await, "rate-limited");
        assert_eq!(house.entered(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_on_every_kind_of_route_and_sheds_before_the_queue() {
    for kind in KINDS {
        let house = House::new();
        let method = request(kind).method().clone();
        let breaker = Breaker {
            failures: 2,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        };
        let policy = Policy {
            breaker: Some(breaker),
            ..policy()
        };
        let route = Route::new("r", method, "/", policy)
            .kind(kind)
            .handler(away, ());
        let router = Built::new(vec![route], &house.shared).unwrap();
        for expected in [
            "no-responders",
            "no-responders",
            "circuit-open",
            "circuit-open",
        ] {
            assert_eq!(code(send(&router, request(kind)).await).await, expected);
        }
        advance(Duration::from_secs(5)).await;
        for expected in ["no-responders", "circuit-open"] {
            assert_eq!(code(send(&router, request(kind)).await).await, expected);
        }
    }
}
