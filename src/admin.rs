//! The second listener: probes, metrics and the document. Apart from the data listener, so that nothing
//! here is reachable for whoever may only publish, and so that a probe is answered when every connection
//! for requests is taken.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use tower::ServiceBuilder;

use crate::layers::cors::Origins;
use crate::layers::guard::{self, Hosts};
use crate::layers::request_id::{self, Form};
use crate::layers::{Verb, panic};
use crate::lifecycle::{Lifecycle, Phase};
use crate::problem::{Code, Problem};
use crate::router::Routes;
use crate::telemetry::metrics::Metrics;

/// What it reports on.
#[derive(Clone)]
pub struct Admin {
    /// Whether natsway is ready.
    pub lifecycle: Lifecycle,
    /// Whether NATS is connected now.
    pub is_connected: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is routed.
    pub routes: Routes,
}

/// The admin listener's service.
pub fn router(admin: Admin) -> Router {
    let pages = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { Problem::new(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::new(Code::MethodNotAllowed) })
        .with_state(admin);
    let pages = Verb::of_fn(move |request| {
        use tower::Service as _;
        let answer = pages.clone().call(request.into_http());
        Box::pin(async move {
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    });
    let stack = Verb::of_stack(
        ServiceBuilder::new()
            .layer(request_id::layer(Form::Whole))
            .layer(panic::layer())
            // Metrics are nothing for a page whose name was made to point to this machine. No names are
            // configured: a kubelet asks for the pod's address.
            .layer(guard::layer(&Hosts::default(), &Origins::default()))
            .service(pages),
    );
    Router::new().fallback_service(tower::service_fn(move |request: http::Request<Body>| {
        let answer = stack.call(request.into());
        async move { Ok::<_, Infallible>(answer.await) }
    }))
}

/// The process turns its wheels: whoever answers this is alive.
async fn live() -> &'static str {
    "ok\n"
}

/// Connected once, and not draining. A later outage of NATS does not turn it: natsway answers that by
/// itself, and taking every replica out of service at once would help nobody.
async fn ready(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let strict = match query.as_deref() {
        None | Some("" | "strict=false") => false,
        Some("strict" | "strict=true") => true,
        Some(_) => {
            let detail = "the only parameter is `strict`, true or false";
            return Problem::new(Code::InvalidParameter)
                .detail(detail)
                .into_response();
        }
    };
    let phase = admin.lifecycle.phase();
    let connected = (admin.is_connected)();
    let ready = admin.lifecycle.is_ready() && (connected || !strict);
    let reason = match phase {
        Phase::Starting => "NATS was not connected yet",
        Phase::Serving if ready => "serving",
        Phase::Serving => "NATS is not connected now",
        Phase::Leaving | Phase::Draining | Phase::Expired => "shutting down",
    };
    if ready {
        let body = json!({"ready": true, "reason": reason, "nats_connected": connected});
        return answer(StatusCode::OK, "application/json", body.to_string());
    }
    let code = match phase {
        Phase::Starting | Phase::Serving => Code::NatsDisconnected,
        Phase::Leaving | Phase::Draining | Phase::Expired => Code::ShuttingDown,
    };
    // What a 200 says stands here as well, for whoever reads only that.
    Problem::new(code)
        .detail(reason)
        .member("ready", false)
        .member("reason", reason)
        .member("nats_connected", connected)
        .into_response()
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text";
    let accept = headers.get_all(ACCEPT);
    let wants = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|value| value.contains(OPENMETRICS))
    };
    match accept.iter().any(wants) {
        true => answer(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            admin.metrics.openmetrics(),
        ),
        false => answer(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            admin.metrics.text(),
        ),
    }
}

async fn openapi(State(admin): State<Admin>) -> Response {
    let document = admin.routes.current().openapi().text();
    answer(StatusCode::OK, "application/json", document)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, no_store),
    ];
    (status, headers, body.into()).into_response()
}
