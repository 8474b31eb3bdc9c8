//! A collector: it takes traces over OTLP (HTTP, protobuf) and can be made to fail as real ones do.

mod tls;

use std::io::Read as _;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{SOON, eventually_some};

/// The status that stands for a collector that never answers.
const BLACK_HOLE: u16 = 0;

#[derive(Default)]
struct Taken {
    spans: Mutex<Vec<Span>>,
    services: Mutex<Vec<String>>,
    encodings: Mutex<Vec<String>>,
    status: AtomicU16,
    delay_ms: AtomicU64,
    asked: AtomicU16,
}

/// The running collector; gone when dropped.
pub(crate) struct Collector {
    taken: Arc<Taken>,
    url: String,
    task: JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::serving(listener, url)
    }

    /// With TLS and a certificate of its own authority, which is the second thing: a file.
    pub(crate) async fn start_tls() -> (Self, tempfile::NamedTempFile) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let (listener, authority) = tls::around(listener);
        (Self::serving(listener, url), authority)
    }

    fn serving<L>(listener: L, url: String) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let taken = Arc::new(Taken::default());
        taken.status.store(200, Ordering::Relaxed);
        let app = axum::Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&taken));
        let serving = async move {
            let _until_aborted = axum::serve(listener, app).await;
        };
        Self {
            taken,
            url,
            task: tokio::spawn(serving),
        }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Takes its time from now on.
    pub(crate) fn answers_after(&self, delay: Duration) {
        let delay_ms = delay.as_millis().try_into().unwrap();
        self.taken.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// How what it got was encoded.
    pub(crate) fn encodings(&self) -> Vec<String> {
        self.taken.encodings.lock().unwrap().clone()
    }

    /// Answers with this status from now on.
    pub(crate) fn answers(&self, status: u16) {
        self.taken.status.store(status, Ordering::Relaxed);
    }

    /// Answers nothing from now on.
    pub(crate) fn answers_never(&self) {
        self.answers(BLACK_HOLE);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u16 {
        self.taken.asked.load(Ordering::Relaxed)
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.taken.spans.lock().unwrap().clone()
    }

    /// The values of `service.name` so far.
    pub(crate) fn services(&self) -> Vec<String> {
        self.taken.services.lock().unwrap().clone()
    }

    /// Waits for the span of this name.
    pub(crate) async fn span(&self, name: &str) -> Span {
        eventually_some(SOON, &format!("the span {name:?} arrives"), async || {
            self.spans().into_iter().find(|span| span.name == name)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a body holds, compressed or not.
fn decoded(head: &HeaderMap, body: Bytes) -> (String, Bytes) {
    let encoding = head.get("content-encoding");
    let encoding = encoding.map_or("", |value| value.to_str().unwrap());
    if encoding != "gzip" {
        return (encoding.to_owned(), body);
    }
    let mut plain = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(&*body);
    reader.read_to_end(&mut plain).expect("it is gzip");
    (encoding.to_owned(), plain.into())
}

async fn take(State(taken): State<Arc<Taken>>, head: HeaderMap, body: Bytes) -> StatusCode {
    taken.asked.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(
        taken.delay_ms.load(Ordering::Relaxed),
    ))
    .await;
    let (encoding, body) = decoded(&head, body);
    taken.encodings.lock().unwrap().push(encoding);
    let status = taken.status.load(Ordering::Relaxed);
    if status == BLACK_HOLE {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    if status == 200 {
        let request = ExportTraceServiceRequest::decode(body).expect("it is OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes);
            for attribute in attributes.unwrap_or_default() {
                if attribute.key == "service.name" {
                    let value = attribute.value.and_then(|value| value.value);
                    taken.services.lock().unwrap().push(text(value));
                }
            }
            for scope in resource.scope_spans {
                taken.spans.lock().unwrap().extend(scope.spans);
            }
        }
    }
    StatusCode::from_u16(status).expect("a status")
}

/// An attribute as text, empty where it is not there.
pub(crate) fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == name);
    text(found.and_then(|pair| pair.value.clone()?.value))
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// An id as it stands in a `traceparent`.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
