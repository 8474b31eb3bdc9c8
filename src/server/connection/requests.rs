//! The requests of a connection, counted from their heads to the ends of their answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use http::{HeaderValue, Request, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::layers::context;
use crate::layers::held::Held;
use crate::layers::peer::Peer;
use crate::layers::received::Received;
use crate::server::Serve;
use crate::server::pace::Pace;

/// The service of one connection: counts the request, and says where it came from.
pub(super) struct Connected<S> {
    pub(super) service: S,
    /// Of the connection, like the pace: what all connections share would pass between the cores with
    /// every request.
    pub(super) peer: Arc<Peer>,
    pub(super) pace: Arc<Pace>,
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Connected<S> {
    type Response = http::Response<Counted>;
    type Error = Infallible;
    type Future = Answer<S::Answer>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (busy, began) = Busy::new(&self.pace);
        let http1 = request.version() < Version::HTTP_2;
        if request.extensions().get::<OnUpgrade>().is_some() {
            let (read, written) = (Arc::clone(&self.pace), Arc::clone(&self.pace));
            let received = Received::new(move || read.received(), move || written.is_stalled());
            request.extensions_mut().insert(received);
        }
        let context = context::Context {
            peer: Some(Arc::clone(&self.peer)),
            began,
            // A request of HTTP/2 has a task of its own.
            is_polled_at_the_end: http1,
            ..context::Context::default()
        };
        let has_body = !request.body().is_end_stream();
        Answer {
            inner: self.service.answer(request, context),
            busy: Some(busy),
            has_body,
            http1,
        }
    }
}

pin_project! {
    pub(super) struct Answer<F> {
        #[pin]
        inner: F,
        busy: Option<Busy>,
        has_body: bool,
        http1: bool,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<http::Response<Counted>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        let busy = this.busy.take();
        if let Some(Busy(pace)) = &busy {
            // Clients move to another replica between two requests, not in the middle of one.
            if *this.http1 && pace.is_leaving() && !is_upgrade(&response) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            if *this.has_body && response.status().as_u16() >= 400 {
                pace.refuse();
            }
        }
        Poll::Ready(Ok(response.map(|body| Counted::new(body, busy))))
    }
}

fn is_upgrade(response: &Response) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

/// A request in flight, from its head to the end of its answer.
pub(super) struct Busy(Arc<Pace>);

impl Busy {
    fn new(pace: &Arc<Pace>) -> (Self, Option<Instant>) {
        let began = pace.begin();
        (Self(Arc::clone(pace)), began)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An answer's body; the connection is busy until it was taken over.
pub(super) type Counted = Held<Option<Busy>>;
