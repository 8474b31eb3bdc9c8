//! How often a publish allocates and how much is held, in this process, so that neither can creep up
//! unseen: natsway's own routes in front of a real nats-server, without the HTTP parser where it is counted,
//! whose allocations are its own.
//!
//! One thread does it all, the library's connection included, so what is counted is the whole way.

mod held;

use allocation_counter::measure;
use axum::body::Body;
use natsway::app::App;
use natsway::config::Sources;
use natsway::layers::Request;
use tokio::runtime::Runtime;

use crate::harness::nats::Nats;

const PUBLISHES: u64 = 500;

/// natsway's routes in this process.
struct Inside {
    runtime: Runtime,
    app: App,
    /// Bytes that were allocated for it to get ready, and not let go of.
    held: i64,
    _nats: Nats,
}

impl Inside {
    fn new(more: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let nats = runtime.block_on(Nats::start());
        let url = nats.url();
        let own = [
            ("NATSWAY_NATS__SERVERS", &*url),
            ("NATSWAY_LISTEN__DATA", "127.0.0.1:0"),
            ("NATSWAY_LISTEN__ADMIN", "127.0.0.1:0"),
        ];
        let is_named = |name| more.iter().any(|(other, _)| *other == name);
        let own = own.iter().filter(|(name, _)| !is_named(*name));
        let environment = own
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let sources = Sources {
            environment,
            ..Sources::default()
        };
        let mut built = None;
        let counted = measure(|| {
            built = Some(runtime.block_on(async {
                let app = App::build(sources.load().unwrap()).await.unwrap();
                app.connected_once().await;
                app
            }));
        });
        Self {
            runtime,
            app: built.unwrap(),
            held: counted.bytes_current,
            _nats: nats,
        }
    }

    /// Allocations of one publish and their bytes, the making of its request not counted.
    fn a_publish(&self, query: &str, traceparent: Option<&str>) -> (f64, f64) {
        let making = self.count(|| drop(request(query, traceparent)));
        let all = self.count(|| {
            let answer = self.app.routes().answer(request(query, traceparent));
            let response = self.runtime.block_on(answer);
            assert!(response.status().is_success(), "{response:?}");
        });
        (all.0 - making.0, all.1 - making.1)
    }

    fn count(&self, mut once: impl FnMut()) -> (f64, f64) {
        // What grows once, such as a buffer or a metric, has grown before.
        (0..100).for_each(|_| once());
        let counted = measure(|| (0..PUBLISHES).for_each(|_| once()));
        let each = |total: u64| total as f64 / PUBLISHES as f64;
        (each(counted.count_total), each(counted.bytes_total))
    }
}

fn request(query: &str, traceparent: Option<&str>) -> Box<Request> {
    let mut request = axum::http::Request::post(format!("/v1/publish/orders.created{query}"))
        .header("host", "localhost")
        .header("content-length", "5");
    if let Some(parent) = traceparent {
        request = request.header("traceparent", parent);
    }
    request.body(Body::from("hello")).unwrap().into()
}

#[test]
fn a_publish_allocates_no_more_than_it_did() {
    let inside = Inside::new(&[]);
    for (query, most, most_bytes) in [("?confirm=none", 11.5, 3300.0), ("", 19.5, 3400.0)] {
        let (each, bytes) = inside.a_publish(query, None);
        assert!(each <= most, "{query}: {each} allocations");
        // What grows is a future, which is copied and touched anew by each request. The library's
        // channels take a block now and then, some 70 bytes each.
        assert!(bytes <= most_bytes, "{query}: {bytes} bytes");
    }
}

#[test]
fn tracing_allocates_nothing_for_a_request_that_is_not_sampled() {
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let plain = Inside::new(&[]).a_publish("", Some(UNSAMPLED));
    let traced = Inside::new(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    let traced = traced.a_publish("", Some(UNSAMPLED));
    // A fence covers as many publishes as are ready, which is not the same every time.
    assert!(traced.0 <= plain.0 + 0.5, "{traced:?} and {plain:?}");
}
