//! A secret that is put wherever one can be is found nowhere that natsway shows.

use crate::harness::bridge::{Bridge, Builder};
use crate::harness::otlp::Collector;
use crate::harness::{Nats, SOON, eventually};

/// In places that are secret by themselves.
const CANARY: &str = "canary7f3a9c51";

/// Headers that carry secrets; `x-api-key` is one nobody knows.
const HEADERS: [&str; 6] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "natsh-secret",
    "baggage",
];

const YAML: &str = "
telemetry: { log: { level: 'trace,h2=info,hyper=info', access: all, format: json }, traces: { sample: 1 } }
api: { manage: true }
routes:
  - name: stock
    match: { method: POST, path: '/stock/{item}' }
    request: { subject: 'stock.{item}' }
    timeout: 300ms
";

fn secret_places(builder: Builder) -> Builder {
    let keys = format!("k1:{:0<64}", hex(CANARY));
    builder
        .env("NATSWAY_ACK_TOKENS__KEYS", &keys)
        .env("OTEL_EXPORTER_OTLP_HEADERS", &format!("api-key={CANARY}"))
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What must not be found.
fn assert_clean(what: &str, text: &str) {
    for secret in [CANARY.to_owned(), hex(CANARY)] {
        let found = text.lines().find(|line| line.contains(&secret));
        assert!(found.is_none(), "{what} shows a secret: {found:?}");
    }
}

async fn ask(bridge: &Bridge, path: &str) -> u16 {
    let mut request = bridge
        .post(&format!("{path}?api_key={CANARY}"))
        .header("content-type", "text/plain")
        .body(CANARY);
    for name in HEADERS {
        request = request.header(name, &format!("secret={CANARY}"));
    }
    request.send().await.status.as_u16()
}

#[tokio::test]
async fn no_secret_of_a_request_is_shown() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let builder = secret_places(Bridge::builder().nats(&nats).yaml(YAML));
    let builder = builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    let bridge = builder.start().await;
    for path in [
        format!("/v1/publish/orders.{CANARY}"),
        format!("/v1/publish/$SYS.{CANARY}"),
        format!("/v1/request/orders.{CANARY}"),
        format!("/v1/acks/{CANARY}"),
        format!("/v1/publish/a..{CANARY}"),
        format!("/stock/{CANARY}"),
        format!("/{CANARY}"),
    ] {
        let status = ask(&bridge, &path).await;
        assert!(status < 500 || status == 503, "{path}: {status}");
    }
    eventually(SOON, "every request has its line", async || {
        let log = bridge.log();
        let lines = log
            .iter()
            .filter(|line| line["target"] == "natsway::access");
        lines.count() >= 7
    })
    .await;
    let log: Vec<String> = bridge.log().iter().map(ToString::to_string).collect();
    assert_clean("the log", &log.join("\n"));
    assert_clean("/metrics", bridge.metrics().await.text());
    assert_clean("/openapi.json", &bridge.admin_get("/openapi.json").await.1);
    collector.span("POST /stock/{item}").await;
    for mut span in collector.spans() {
        // A span names the subject on purpose, as nothing else does.
        span.attributes
            .retain(|pair| pair.key != "messaging.destination.name");
        assert_clean("a span", &format!("{span:?}"));
    }
}

#[tokio::test]
async fn no_secret_of_the_configuration_is_shown() {
    let auth = |auth: &str| format!("nats: {{ auth: {{ {auth}{CANARY} }} }}");
    for yaml in [
        auth("user: u, password: "),
        auth("token: "),
        auth("nkey: "),
        auth("creds: "),
        format!("telemetry: {{ traces: {{ otlp_endpoint: 'http://u:{CANARY}@c:4318' }} }}"),
    ] {
        let yaml = format!("{yaml}\nshutdown: {{ grace: 5s }}");
        for args in [
            &["config"][..],
            &["config", "--json"],
            &["check"],
            &["openapi"],
        ] {
            let builder = args
                .iter()
                .fold(Bridge::builder(), |builder, arg| builder.arg(arg));
            let (_, said) = secret_places(builder.yaml(&yaml)).run().await;
            assert_clean(&format!("{args:?} with {yaml}"), &said);
        }
    }
}

#[tokio::test]
async fn no_credential_is_logged_while_natsway_connects_and_is_refused() {
    let nats = Nats::start().await;
    let url = nats.url().replacen("://", &format!("://u:{CANARY}@"), 1);
    let yaml = "telemetry: { log: { level: trace } }";
    let builder = secret_places(Bridge::builder().servers(&url).yaml(yaml));
    let bridge = builder.start().await;
    nats.kill9();
    bridge.is_disconnected().await;
    bridge.logs("cannot connect to NATS").await;
    let log: Vec<String> = bridge.log().iter().map(ToString::to_string).collect();
    assert_clean("the log", &log.join("\n"));
    assert_clean("/metrics", bridge.metrics().await.text());
}
