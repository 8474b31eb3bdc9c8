//! The OpenAPI 3.1 document, generated from the routes that are registered: one function, and what every
//! operation has in common is said once.
//!
//! It is made when somebody asks for it. Most never do, and as a tree it takes half a megabyte.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use crate::problem::{CONTENT_TYPE, Code};
use crate::router::{Kind, Route};

/// What a route says of itself, unless it says nothing.
#[derive(Clone, Default)]
pub(crate) struct Description(pub(crate) Option<Arc<dyn Fn() -> Value + Send + Sync>>);

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description").finish_non_exhaustive()
    }
}

/// The document of the routes that are in force.
#[derive(Debug)]
pub struct Document {
    operations: Vec<Operation>,
    text: OnceLock<Bytes>,
}

/// What of a route it shows.
#[derive(Debug)]
struct Operation {
    name: Cow<'static, str>,
    method: Method,
    path: Cow<'static, str>,
    kind: Kind,
    head: bool,
    description: Description,
}

impl Document {
    pub(super) fn new(routes: &[Route]) -> Self {
        let operation = |route: &Route| Operation {
            name: route.name.clone(),
            method: route.method.clone(),
            path: route.path.clone(),
            kind: route.kind,
            head: route.head,
            description: route.operation.clone(),
        };
        Self {
            operations: routes.iter().map(operation).collect(),
            text: OnceLock::new(),
        }
    }

    /// As one line, which is kept.
    pub fn text(&self) -> Bytes {
        let text = || self.value().to_string().into();
        self.text.get_or_init(text).clone()
    }

    /// As a tree.
    #[must_use]
    pub fn value(&self) -> Value {
        document(&self.operations)
    }
}

fn document(routes: &[Operation]) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let methods = paths.entry(&*route.path).or_default();
        methods.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
        if route.head {
            let mut head = operation(route);
            head["operationId"] = format!("{}-head", route.name).into();
            methods.insert("head".to_owned(), head);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "natsway",
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components(),
    })
}

fn operation(route: &Operation) -> Value {
    let mut operation = match route.description.0.as_ref().map(|describe| describe()) {
        Some(Value::Object(operation)) => operation,
        _ => Map::new(),
    };
    let id = operation.entry("operationId");
    id.or_insert_with(|| route.name.as_ref().into());
    let mut parameters = path_parameters(&route.path, operation.get("parameters"));
    if let Some(Value::Array(own)) = operation.remove("parameters") {
        parameters.extend(own);
    }
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), parameters.into());
    }
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    if let Some(responses) = responses.as_object_mut() {
        let problem = json!({"$ref": "#/components/responses/Problem"});
        responses.entry("default").or_insert(problem);
    }
    if let Kind::Stream = route.kind {
        operation.insert("x-streaming".to_owned(), true.into());
    }
    Value::Object(operation)
}

/// One parameter for each capture that the operation does not describe itself.
fn path_parameters(path: &str, described: Option<&Value>) -> Vec<Value> {
    let described: Vec<&Value> = described
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
        .filter(|name| !described.iter().any(|own| own["in"] == "path" && own["name"] == *name))
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect()
}

fn components() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "responses": {
            "Problem": {
                "description": "What went wrong, and whether trying again is safe.",
                "headers": {
                    "X-Request-Id": {"schema": {"type": "string"}},
                    "Retry-After": {
                        "description": "Seconds; with every 429 and 503.",
                        "schema": {"type": "integer"},
                    },
                },
                "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
        "schemas": {
            "Problem": {
                "type": "object",
                "required": [
                    "type", "title", "status", "detail", "code", "source", "outcome", "retryable",
                ],
                "properties": {
                    "type": {"type": "string", "format": "uri"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "code": {"type": "string", "enum": codes},
                    "source": {"type": "string", "enum": ["client", "bridge", "nats", "responder"]},
                    "outcome": {"type": "string", "enum": ["not_sent", "rejected", "unknown"]},
                    "retryable": {"type": "boolean"},
                    "request_id": {"type": "string"},
                },
            },
        },
    })
}
