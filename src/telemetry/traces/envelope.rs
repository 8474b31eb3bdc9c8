//! What goes around the spans of a batch: who says it, and after which conventions.

use opentelemetry_sdk::Resource;

use super::export::Batch;
use super::names;
use super::wire::{self, Value};

/// An `ExportTraceServiceRequest` but for its spans.
#[derive(Debug)]
pub(super) struct Envelope {
    /// Fields of `ResourceSpans`.
    resource: Vec<u8>,
    /// Fields of `ScopeSpans`.
    scope: Vec<u8>,
}

impl Envelope {
    pub(super) fn new() -> Self {
        let mut attributes = Vec::new();
        for (name, value) in resource().iter() {
            wire::attribute(
                &mut attributes,
                1,
                name.as_str(),
                Value::Text(&value.as_str()),
            );
        }
        let mut resource = Vec::new();
        wire::bytes(&mut resource, 1, &attributes);
        let mut instrumentation = Vec::new();
        wire::bytes(&mut instrumentation, 1, names::SCOPE.as_bytes());
        wire::bytes(
            &mut instrumentation,
            2,
            env!("CARGO_PKG_VERSION").as_bytes(),
        );
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, &instrumentation);
        wire::bytes(&mut scope, 3, names::SCHEMA_URL.as_bytes());
        Self { resource, scope }
    }

    /// The whole body of a request.
    pub(super) fn around(&self, batch: &Batch) -> Vec<u8> {
        let scope = self.scope.len() + batch.spans.len();
        let resource = self.resource.len() + wire::bytes_length(scope);
        let mut body = Vec::with_capacity(wire::bytes_length(resource));
        wire::head(&mut body, 1, resource);
        body.extend_from_slice(&self.resource);
        wire::head(&mut body, 2, scope);
        body.extend_from_slice(&self.scope);
        body.extend_from_slice(&batch.spans);
        body
    }
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say who this is; without them, `natsway` does.
fn resource() -> Resource {
    let names = |name| std::env::var(name).unwrap_or_default();
    let named = !names("OTEL_SERVICE_NAME").is_empty()
        || names("OTEL_RESOURCE_ATTRIBUTES").contains("service.name=");
    let builder = Resource::builder();
    match named {
        true => builder.build(),
        false => builder.with_service_name("natsway").build(),
    }
}
