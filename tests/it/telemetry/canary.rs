//! A secret that is put wherever one can be is found nowhere that natsway shows.

use serde_json::json;

use crate::harness::bridge::{Bridge, Builder};
use crate::harness::otlp::Collector;
use crate::harness::{Nats, Python, SOON, eventually};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// In places that are secret by themselves.
const CANARY: &str = "canary7f3a9c51";

/// Headers that carry secrets; `x-api-key` is one nobody knows.
const HEADERS: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "natsh-secret",
    "baggage",
    "idempotency-key",
    "tracestate",
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

/// With a header that every message gets.
const ROUTE: &str = "routes: [{ name: r, match: { method: POST, path: /r }, publish: { subject: a }, headers: { set: { Authorization: 'Bearer canary7f3a9c51' } } }]";

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
        .header("traceparent", PARENT)
        .body(CANARY);
    for name in HEADERS {
        request = request.header(name, &format!("secret={CANARY}"));
    }
    request.send().await.status.as_u16()
}

/// Answers with a secret in its headers and its payload.
const RESPONDER: &str = "
async def answer(msg):
    await nc.publish(msg.reply, b'CANARY', headers={'X-Api-Key': 'CANARY', 'Traceparent': msg.headers['traceparent']})
await nc.subscribe('answered.*', cb=answer)
await ready()
await asyncio.Event().wait()
";

/// The ways of messages that are no single request: streams, a consumer, a batch, frames.
async fn move_messages(bridge: &Bridge) {
    let mut core = bridge.sse("/v1/subscribe/kept.*").await.expect_ok();
    let headers =
        json!({"X-Api-Key": CANARY, "traceparent": PARENT, "tracestate": format!("a={CANARY}")});
    let line = json!({"subject": "kept.a", "data": CANARY, "headers": headers, "msg_id": CANARY});
    let batch = bridge
        .post("/v1/publish?confirm=stream")
        .header("content-type", "application/x-ndjson")
        .header("traceparent", PARENT)
        .body(format!(
            "{line}\n{{\"subject\": \"{CANARY} \"}}\n{CANARY}\n"
        ));
    batch.send().await;
    core.event().await.unwrap();
    let mut replay = bridge
        .sse("/v1/streams/S/subscribe?from=all")
        .await
        .expect_ok();
    replay.event().await.unwrap();
    let fetch = bridge.post("/v1/streams/S/consumers/c/fetch?max=1&wait=5s");
    let fetched = fetch.header("traceparent", PARENT).send().await.expect(200);
    let token = fetched.json()["messages"][0]["ack"]
        .as_str()
        .unwrap()
        .to_owned();
    let ack = bridge.post(&format!("/v1/acks/{token}?kind=term&reason={CANARY}"));
    ack.header("traceparent", PARENT).send().await.expect(204);
    bridge
        .post("/v1/request/answered.a")
        .header("traceparent", PARENT)
        .body(CANARY)
        .send()
        .await
        .expect(200);
    let mut ws = bridge.ws("/v1/ws").await;
    for frame in [
        json!({"op": "publish", "id": CANARY, "subject": "kept.b", "data": CANARY, "headers": headers}),
        json!({"op": "request", "id": CANARY, "subject": "answered.b", "data": CANARY, "headers": headers}),
        json!({"op": CANARY, "id": CANARY}),
    ] {
        ws.send(&frame).await;
        ws.next().await;
    }
}

#[tokio::test]
async fn no_secret_of_a_request_is_shown() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    nats.stream("S", &["kept.>"], json!({})).await;
    nats.consumer("S", "c", json!({})).await;
    let _responder = Python::start(&nats, &RESPONDER.replace("CANARY", CANARY)).await;
    let builder = secret_places(Bridge::builder().nats(&nats).yaml(YAML));
    let endpoint = collector
        .url()
        .replacen("://", &format!("://u:{CANARY}@"), 1);
    let builder = builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let bridge = builder.start().await;
    move_messages(&bridge).await;
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
    for name in ["POST /stock/{item}", "fetch", "term", "stream", "request"] {
        collector.span(name).await;
    }
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
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let (secret, keys) = (file(CANARY), file(&format!("k1:{:0<64}", hex(CANARY))));
    let named = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    for yaml in [
        format!(
            "nats: {{ auth: {{ user: u, password_file: {} }} }}",
            named(&secret)
        ),
        format!("nats: {{ auth: {{ token_file: {} }} }}", named(&secret)),
        format!("nats: {{ auth: {{ nkey_file: {} }} }}", named(&secret)),
        format!("nats: {{ auth: {{ creds_file: {} }} }}", named(&secret)),
        format!("nats: {{ tls: {{ ca_file: {} }} }}", named(&secret)),
        format!("ack_tokens: {{ key_file: {} }}", named(&keys)),
        format!("ack_tokens: {{ key_file: {} }}", named(&secret)),
        auth("user: u, password: "),
        auth("token: "),
        auth("nkey: "),
        auth("creds: "),
        format!("telemetry: {{ traces: {{ otlp_endpoint: 'http://u:{CANARY}@c:4318' }} }}"),
    ] {
        let yaml = format!("{yaml}\nshutdown: {{ grace: 5s }}\n{ROUTE}");
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
