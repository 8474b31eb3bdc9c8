//! What natsway says of itself in `/v1/openapi.json`, with routes of one's own.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::{Bridge, Nats};

const ROUTES: &str = "
routes:
  - name: create-order
    match: { method: POST, path: /orders }
    publish: { subject: orders.created, confirm: stream, stream: ORDERS }
    params: [timeout, confirm]
  - name: change-order
    match: { method: PUT, path: \"/orders/{id}/lines/{line}\" }
    publish: { subject: \"orders.{id}.{line}\" }
  - name: stock
    match: { path: \"/stock/{sku}\" }
    request: { subject: \"stock.{sku}\" }
    params: [timeout]
  - name: reserve
    match: { method: POST, path: \"/stock/{sku}\" }
    request: { subject: \"reserve.{sku}\" }
  - name: feed
    match: { path: \"/feed/{region}\" }
    subscribe: { subjects: [\"orders.{region}.>\"] }
    params: [max, format]
  - name: history
    match: { path: /history }
    replay: { stream: ORDERS, from: all }
    params: [from]
";

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Every operation as method, path and description.
fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
    let paths = members(&document["paths"]);
    let each = |(path, methods)| members(methods).map(move |(method, it)| (method, path, it));
    paths.flat_map(each).collect()
}

fn resolves(document: &Value, value: &Value) {
    if let Some(Value::String(reference)) = value.get("$ref") {
        let pointer = reference
            .strip_prefix('#')
            .expect("a reference into itself");
        assert!(document.pointer(pointer).is_some(), "{reference} dangles");
    }
    for (_, inner) in members(value) {
        resolves(document, inner);
    }
    for inner in value.as_array().into_iter().flatten() {
        resolves(document, inner);
    }
}

fn captures(path: &str) -> HashSet<String> {
    let names = path.split('/');
    let names = names.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(str::to_owned).collect()
}

/// What OpenAPI 3.1 asks of an operation.
fn is_an_operation(method: &str, path: &str, operation: &Value) {
    let what = format!("{method} {path}: {operation:#}");
    let methods = ["get", "put", "post", "delete", "head", "patch"];
    assert!(methods.contains(&method) && path.starts_with('/'), "{what}");
    let mut seen = HashSet::new();
    let mut in_path = HashSet::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, place) = (&parameter["name"], &parameter["in"]);
        let (name, place) = (name.as_str().unwrap(), place.as_str().unwrap());
        assert!(seen.insert((name, place)), "{name} twice in {what}");
        assert!(parameter["schema"].is_object(), "{what}");
        match place {
            "path" => {
                assert_eq!(parameter["required"], true, "{what}");
                in_path.insert(name.to_owned());
            }
            place => assert!(["query", "header"].contains(&place), "{what}"),
        }
    }
    assert_eq!(in_path, captures(path), "{what}");
    if let Some(body) = operation.get("requestBody") {
        assert!(members(&body["content"]).next().is_some(), "{what}");
    }
    let mut statuses = HashSet::new();
    for (status, response) in members(&operation["responses"]) {
        statuses.insert(status.as_str());
        let is_status = status.len() == 3 && status.parse::<u16>().is_ok();
        assert!(is_status || status == "default", "{what}");
        let described = response.get("$ref").or_else(|| response.get("description"));
        assert!(described.is_some_and(Value::is_string), "{what}");
    }
    assert!(statuses.len() > 1 && statuses.contains("default"), "{what}");
}

/// What OpenAPI 3.1 asks of the document.
fn is_a_document(document: &Value) {
    let version = document["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1."), "{version}");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut names = HashSet::new();
    for (method, path, operation) in operations(document) {
        is_an_operation(method, path, operation);
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is there twice");
    }
    resolves(document, document);
}

async fn document(bridge: &Bridge) -> Value {
    bridge
        .get("/v1/openapi.json")
        .send()
        .await
        .expect(200)
        .json()
}

#[tokio::test]
async fn declared_routes_stand_there_under_their_names() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, ROUTES).await;
    let document = document(&bridge).await;
    is_a_document(&document);
    let declared: Vec<_> = operations(&document)
        .into_iter()
        .filter(|(_, path, _)| !path.starts_with("/v1/"))
        .map(|(method, path, operation)| {
            let parameters = operation["parameters"].as_array();
            let names = parameters.into_iter().flatten().map(|parameter| {
                let word = |name: &str| parameter[name].as_str().unwrap();
                format!("{} {}", word("in"), word("name"))
            });
            let statuses = members(&operation["responses"]).map(|(status, _)| status.as_str());
            format!(
                "{} = {method} {path} [{}] body: {}, {}, streams: {}",
                operation["operationId"].as_str().unwrap(),
                names.collect::<Vec<_>>().join(", "),
                operation["requestBody"].is_object(),
                statuses.collect::<Vec<_>>().join(" "),
                operation["x-streaming"] == true,
            )
        })
        .collect();
    assert_eq!(
        declared,
        [
            "feed = get /feed/{region} [path region, query max, query format] body: false, 200 default, streams: true",
            "history = get /history [query from] body: false, 200 default, streams: true",
            "create-order = post /orders [query timeout, query confirm] body: true, 202 204 200 default, streams: false",
            "change-order = put /orders/{id}/lines/{line} [path id, path line] body: true, 204 default, streams: false",
            "stock = get /stock/{sku} [path sku, query timeout] body: false, 200 default, streams: false",
            "reserve = post /stock/{sku} [path sku] body: true, 200 default, streams: false",
        ]
    );
    // What stands there is what is there.
    for (path, methods) in members(&document["paths"]) {
        if path.starts_with("/v1/") {
            continue;
        }
        let mut methods: Vec<_> = members(methods)
            .map(|(name, _)| name.to_uppercase())
            .collect();
        methods.sort();
        let path = path.replace(['{', '}'], "");
        let answer = bridge.delete(&path).send().await.expect(405);
        assert_eq!(answer.header("allow"), Some(&*methods.join(", ")), "{path}");
    }
}

#[tokio::test]
async fn whatever_is_switched_off_the_document_is_one() {
    let nats = Nats::start().await;
    for (yaml, gone, there) in [
        ("", "", "/v1/publish"),
        ("api: { publish: false }", "", "/v1/publish/{subject}"),
        (
            "api: { batch: false }",
            "/v1/publish",
            "/v1/publish/{subject}",
        ),
        ("api: { jetstream: false }", "/v1/streams", "/v1/ws"),
        ("api: { subscribe: false }", "/v1/ws", "/v1/streams"),
    ] {
        let bridge = Bridge::start(&nats, yaml).await;
        let document = document(&bridge).await;
        is_a_document(&document);
        let paths = &document["paths"];
        assert!(paths[gone].is_null() && paths[there].is_object(), "{yaml}");
    }
}
