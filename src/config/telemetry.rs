//! `telemetry`: what natsway says about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::errors::Findings;

/// What natsway says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Logs, on standard output.
    pub log: Log,
    /// Traces, over OTLP.
    pub traces: Traces,
}

/// Logs, on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How lines are written. A change needs a restart.
    pub format: LogFormat,
    /// The level, `error` to `trace`, or a filter such as `info,natsway::nats=debug`.
    pub level: String,
    /// Which requests get a line.
    pub access: AccessLog,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".to_owned(),
            access: AccessLog::Off,
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// As text on a terminal, else as JSON.
    #[default]
    Auto,
    /// As text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which requests get a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLog {
    /// None: at full speed the lines cost more than the requests.
    #[default]
    Off,
    /// Those answered 4xx or 5xx.
    Errors,
    /// All.
    All,
}

/// Traces, over OTLP (HTTP, protobuf). The `OTEL_*` environment is honoured where a key is not set here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// The collector's base URL, such as `http://collector:4318`; `/v1/traces` is appended. Without one no traces are sent. A change needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// The share of requests traced where the caller has not decided, 0 to 1. Without one it is what `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say, else 0.01: one in a hundred shows what is typical at little cost.
    #[schemars(range(min = 0, max = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
    /// What a caller's `traceparent` means.
    pub trust: Trust,
}

/// What a caller's `traceparent` means. A damaged one is dropped in any case. Other than with `inherit`,
/// nothing of a caller's `traceparent`, `tracestate` and `baggage` goes on, whether traces are sent or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// natsway's span continues the caller's trace and keeps its sampling.
    #[default]
    Inherit,
    /// A new trace, linked to the caller's: for callers one does not know.
    Link,
    /// Nothing.
    Ignore,
}

impl Telemetry {
    pub(super) fn check(&self, findings: &mut Findings) {
        findings.under("log", |findings| {
            if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.level) {
                findings.wrong_at(
                    "level",
                    format!("`{}` is no level or filter: {error}", self.log.level),
                );
            }
        });
        findings.under("traces", |findings| {
            findings.require(
                self.traces
                    .sample
                    .is_none_or(|share| (0.0..=1.0).contains(&share)),
                "sample",
                "must be between 0 and 1",
            );
            if let Some(endpoint) = &self.traces.otlp_endpoint {
                let uri = endpoint.parse::<http::Uri>();
                let fits = uri.is_ok_and(|uri| {
                    uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
                });
                findings.require(
                    fits,
                    "otlp_endpoint",
                    "must be a URL such as http://collector:4318",
                );
                findings.require(
                    !endpoint.contains('@'),
                    "otlp_endpoint",
                    "must hold no user or password: it is shown; OTEL_EXPORTER_OTLP_HEADERS is not",
                );
            }
        });
    }
}
