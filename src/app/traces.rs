//! Whether and where traces are sent: what the configuration says, else what the environment that all
//! OpenTelemetry programs read says.

use super::StartError;
use crate::config;
use crate::telemetry::metrics::TraceCounters;
use crate::telemetry::traces::Traces;

const PATH: &str = "/v1/traces";

/// Starts to send, where somebody said to where.
pub(super) fn start(
    settings: &config::Traces,
    counters: TraceCounters,
) -> Result<Option<Traces>, StartError> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(endpoint) = endpoint(settings, variable) else {
        return Ok(None);
    };
    let traces = Traces::start(&endpoint, counters);
    traces
        .map(Some)
        .map_err(|error| StartError::Traces(error.to_string()))
}

fn endpoint(
    settings: &config::Traces,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let said = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let is =
        |name: &str, word: &str| said(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let base = |url: &str| format!("{}{PATH}", url.trim_end_matches('/'));
    let configured = settings.otlp_endpoint.as_deref().map(base);
    configured
        .or_else(|| said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        .or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT").as_deref().map(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(configured: Option<&str>, environment: &[(&str, &str)]) -> Option<String> {
        let settings = config::Traces {
            otlp_endpoint: configured.map(str::to_owned),
            ..config::Traces::default()
        };
        endpoint(&settings, |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_configuration_is_asked_before_the_environment() {
        const GENERAL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318/");
        const OWN: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/in");
        assert_eq!(of(None, &[]), None);
        assert_eq!(of(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
        assert_eq!(
            of(None, &[GENERAL]).as_deref(),
            Some("http://b:4318/v1/traces")
        );
        assert_eq!(of(None, &[GENERAL, OWN]).as_deref(), Some("http://c/in"));
        let configured = of(Some("http://a:4318"), &[GENERAL, OWN]);
        assert_eq!(configured.as_deref(), Some("http://a:4318/v1/traces"));
    }

    #[test]
    fn the_environment_can_switch_traces_off() {
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert_eq!(of(Some("http://a:4318"), &[off]), None);
        }
    }
}
