//! What a request may look like, and what an answer does.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_body_is_limited_timed_and_paid_for() {
    let house = House::new();
    house.go.add_permits(10);
    let router = house.router(Kind::Unary, policy());
    let post = |body: Body| Request::post("/").body(body).unwrap();
    let refused = send(&router, post(vec![0; 101].into())).await;
    assert_eq!(refused.status(), 413);
    assert_eq!(
        house.entered(),
        0,
        "a declared length is judged before the handler"
    );
    let chunked = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(vec![0; 101])]));
    assert_eq!(
        code(send(&router, post(chunked)).await).await,
        "payload-too-large"
    );
    house.shared.bodies.set_limit(50);
    let start = Instant::now();
    for body in [vec![0; 51].into(), Body::from_stream(silence())] {
        assert_eq!(code(send(&router, post(body)).await).await, "overloaded");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    house.shared.bodies.set_limit(1000);
    let silent = Body::from_stream(silence());
    assert_eq!(
        code(send(&router, post(silent)).await).await,
        "body-timeout"
    );
    // The request's own timeout, which ends before the one for bodies.
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    let encoded = Request::post("/").header("content-encoding", "gzip");
    let refused = send(&router, encoded.body("x".into()).unwrap()).await;
    assert_eq!(refused.headers()[header::ACCEPT_ENCODING], "identity");
    assert_eq!(code(refused).await, "unsupported-media-type");
    assert_eq!(code(send(&router, post("fine".into())).await).await, "200");
}

fn silence() -> stream::Pending<std::io::Result<Bytes>> {
    stream::pending()
}

async fn bug() -> Response {
    panic!("on purpose")
}

#[tokio::test]
async fn a_panic_is_answered_and_its_place_is_free_again() {
    for kind in KINDS {
        let house = House::new();
        let method = request(kind).method().clone();
        let route = Route::new("r", method, "/", policy())
            .kind(kind)
            .handler(bug, ());
        let router = Built::new(vec![route], &house.shared).unwrap();
        for _ in 0..3 {
            let response = send(&router, request(kind)).await;
            assert_eq!(response.status(), 500);
            assert_eq!(code(response).await, "internal");
        }
    }
}

#[tokio::test]
async fn a_listed_page_may_read_every_answer_and_others_are_refused() {
    for kind in KINDS {
        let house = House::new();
        house.go.add_permits(10);
        let router = house.router(kind, policy());
        let from = |origin: &str, mut request: Request| {
            request
                .headers_mut()
                .insert(header::ORIGIN, origin.parse().unwrap());
            request
        };
        let allowed = |response: &Response| {
            let headers = response.headers();
            assert!(
                headers
                    .get_all(header::VARY)
                    .iter()
                    .any(|vary| vary == "Origin")
            );
            headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        let response = send(&router, from("https://app.example", request(kind))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(allowed(&response).unwrap(), "https://app.example");
        drop(response);
        let nowhere = Request::get("/nowhere").body(Body::empty()).unwrap();
        let response = send(&router, from("https://app.example", nowhere)).await;
        assert_eq!(response.status(), 404);
        assert_eq!(allowed(&response).unwrap(), "https://app.example");
        for origin in ["https://evil.example", "null", "https://app.example.evil"] {
            let response = send(&router, from(origin, request(kind))).await;
            assert_eq!(response.status(), 403, "{origin}");
            assert_eq!(allowed(&response), None);
            assert_eq!(code(response).await, "origin-not-allowed");
        }
        let preflight = |origin: &str| {
            let request = Request::builder().method(Method::OPTIONS).uri("/");
            let request = request
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "natsh-order-id");
            from(origin, request.body(Body::empty()).unwrap())
        };
        let response = send(&router, preflight("https://app.example")).await;
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        let method = request(kind).method().to_string();
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_METHODS], method);
        assert_eq!(
            headers[header::ACCESS_CONTROL_ALLOW_HEADERS],
            "natsh-order-id"
        );
        assert_eq!(
            send(&router, preflight("https://evil.example"))
                .await
                .status(),
            403
        );
    }
}

#[tokio::test]
async fn head_and_other_methods_are_refused_with_what_is_allowed() {
    let house = House::new();
    house.go.add_permits(10);
    let read = Route::new("read", Method::GET, "/x/{id}", policy())
        .with_head()
        .handler(answer, (Arc::clone(&house.go), Arc::default(), Kind::Unary));
    let write = Route::new("write", Method::PUT, "/x/{id}", policy())
        .handler(answer, (Arc::clone(&house.go), Arc::default(), Kind::Unary));
    let feed = Route::new("feed", Method::GET, "/feed", policy())
        .kind(Kind::Stream)
        .handler(
            answer,
            (Arc::clone(&house.go), Arc::default(), Kind::Stream),
        );
    let router = Built::new(vec![read, write, feed], &house.shared).unwrap();
    for (method, path, status, allow) in [
        (Method::HEAD, "/x/1", 200, None),
        (Method::GET, "/x/1", 200, None),
        (Method::DELETE, "/x/1", 405, Some("GET, HEAD, PUT")),
        (Method::HEAD, "/feed", 405, Some("GET")),
        (Method::OPTIONS, "/feed", 405, Some("GET")),
    ] {
        let request = Request::builder().method(&method).uri(path);
        let response = send(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{method} {path}");
        let allowed = response.headers().get(header::ALLOW);
        assert_eq!(
            allowed.map(|value| value.to_str().unwrap()),
            allow,
            "{method} {path}"
        );
    }
}

#[test]
fn routes_that_cannot_be_told_apart_are_refused_by_name() {
    let house = House::new();
    let route = |name: &'static str, path: &'static str| {
        Route::new(name, Method::GET, path, policy()).handler(away, ())
    };
    let same = Built::new(vec![route("a", "/x"), route("b", "/x")], &house.shared);
    let why = same.unwrap_err().to_string();
    assert!(
        why.contains(" b ") && why.contains(" a has the same"),
        "{why}"
    );
    let alike = Built::new(vec![route("a", "/{x}"), route("b", "/{y}")], &house.shared);
    assert!(alike.unwrap_err().to_string().contains("cannot be added"));
}

#[tokio::test]
async fn compression_is_for_whole_answers_only() {
    async fn long() -> Response {
        ([(header::CONTENT_TYPE, "text/plain")], "x".repeat(4096)).into_response()
    }
    async fn lines() -> Response {
        let lines = stream::iter([Ok::<_, std::io::Error>("{}\n".repeat(1000))]);
        (
            [(header::CONTENT_TYPE, "application/x-ndjson")],
            Body::from_stream(lines),
        )
            .into_response()
    }
    let mut house = House::new();
    house.shared.compression = true;
    let routes = vec![
        Route::new("long", Method::GET, "/long", policy()).handler(long, ()),
        Route::new("lines", Method::GET, "/lines", policy()).handler(lines, ()),
        Route::new("feed", Method::GET, "/feed", policy())
            .kind(Kind::Stream)
            .handler(long, ()),
    ];
    let router = Built::new(routes, &house.shared).unwrap();
    for (path, accept, coding) in [
        ("/long", "gzip", Some("gzip")),
        ("/long", "zstd", Some("zstd")),
        ("/long", "", None),
        ("/lines", "gzip", None),
        ("/feed", "gzip", None),
    ] {
        let request = Request::get(path).header(header::ACCEPT_ENCODING, accept);
        let response = send(&router, request.body(Body::empty()).unwrap()).await;
        let found = response.headers().get(header::CONTENT_ENCODING);
        assert_eq!(
            found.map(|value| value.to_str().unwrap()),
            coding,
            "{path} {accept}"
        );
    }
}
