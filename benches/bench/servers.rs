//! What natsway is held against, each in a process of its own.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::StatusCode;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn serve(router: Router) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let listener =
        axum::serve::ListenerExt::tap_io(listener, |stream| stream.set_nodelay(true).unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// The limit: a handler that reads the body and answers 202.
pub(crate) fn bare() {
    async fn handler(body: Bytes) -> StatusCode {
        std::hint::black_box(body.len());
        StatusCode::ACCEPTED
    }
    runtime().block_on(serve(
        Router::new().route("/v1/publish/{subject}", post(handler)),
    ));
}

/// A service that answers what it is asked.
pub(crate) fn echo(nats: &str) {
    runtime().block_on(async {
        let client = async_nats::connect(nats).await.unwrap();
        let mut requests = client.subscribe("bench.echo").await.unwrap();
        client.flush().await.unwrap();
        println!("ready");
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                client.publish(reply, request.payload).await.unwrap();
            }
        }
    });
}

type Client = State<async_nats::Client>;

async fn publish(State(client): Client, Path(subject): Path<String>, body: Bytes) -> StatusCode {
    client.publish(subject, body).await.unwrap();
    StatusCode::ACCEPTED
}

/// Says that the message has left, which is less than `confirm=server` does.
async fn flush(State(client): Client, Path(subject): Path<String>, body: Bytes) -> StatusCode {
    client.publish(subject, body).await.unwrap();
    client.flush().await.unwrap();
    StatusCode::NO_CONTENT
}

async fn request(State(client): Client, Path(subject): Path<String>, body: Bytes) -> Bytes {
    client.request(subject, body).await.unwrap().payload
}

/// One NATS subscription a reader.
async fn sse(State(client): Client) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let messages = client.subscribe("bench.sse").await.unwrap();
    client.flush().await.unwrap();
    let events = messages.map(|message| {
        let text = String::from_utf8_lossy(&message.payload);
        let data = serde_json::json!({"subject": message.subject.as_str(), "encoding": "text", "data": text});
        Ok(Event::default().data(data.to_string()))
    });
    Sse::new(events)
}

/// The straightforward way: axum around async-nats, with no limit, no policy and no metric.
pub(crate) fn naive(nats: &str) {
    runtime().block_on(async {
        let router = Router::new()
            .route("/v1/publish/{subject}", post(publish))
            .route("/flush/{subject}", post(flush))
            .route("/v1/request/{subject}", post(request))
            .route("/v1/subscribe/bench.sse", get(sse));
        let client = async_nats::connect(nats).await.unwrap();
        serve(router.with_state(client)).await;
    });
}

/// A collector that takes spans, or does what real ones do when they are ill.
pub(crate) fn collector(what: &str) {
    let (delay, status) = match what {
        "black-hole" => (Duration::from_secs(3600), StatusCode::OK),
        "slow" => (Duration::from_millis(300), StatusCode::OK),
        "500" => (Duration::ZERO, StatusCode::INTERNAL_SERVER_ERROR),
        _ => (Duration::ZERO, StatusCode::OK),
    };
    let handler = async move |body: Bytes| {
        std::hint::black_box(body.len());
        tokio::time::sleep(delay).await;
        status
    };
    runtime().block_on(serve(Router::new().route("/v1/traces", post(handler))));
}
