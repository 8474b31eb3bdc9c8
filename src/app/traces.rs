//! Whether and where traces are sent: what the configuration says, else what the environment that all
//! OpenTelemetry programs read says.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::config;
use crate::telemetry::metrics::TraceCounters;
use crate::telemetry::traces::{Sending, Traces};

const PATH: &str = "/v1/traces";

/// How long one batch may take where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The share that is traced where nobody says otherwise.
const SAMPLE: f64 = 0.01;

/// Starts to send, where somebody said to where. What the environment says wrongly costs a warning: it is
/// shared with programs that may understand it. No line quotes it, since an endpoint may hold a password.
pub(super) fn start(settings: &config::Traces, counters: TraceCounters) -> Option<Traces> {
    let variable = |name: &str| std::env::var(name).ok();
    let endpoint = usable(&endpoint(settings, variable)?);
    if endpoint.is_none() {
        tracing::warn!(
            "no traces are sent: the OTLP endpoint in the environment is no http or https URL"
        );
    }
    warn_of_what_is_not_honoured(variable);
    let sending = Sending {
        endpoint: endpoint?,
        headers: headers(variable),
        is_compressed: compression(variable).is_some_and(|word| is_one_of(&word, &["gzip"])),
        timeout: timeout(variable),
        sample: share(variable),
    };
    Some(Traces::start(sending, counters))
}

fn usable(endpoint: &str) -> Option<Uri> {
    let uri: Uri = endpoint.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    (is_http && uri.host().is_some()).then_some(uri)
}

fn first(variable: impl Fn(&str) -> Option<String>, names: [&str; 2]) -> Option<String> {
    names.iter().find_map(|name| said(&variable, name))
}

fn compression(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    const NAMES: [&str; 2] = [
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
    ];
    first(variable, NAMES)
}

/// Pairs as in `baggage`: `name=value,name=value`, with values percent-encoded.
fn headers(variable: impl Fn(&str) -> Option<String>) -> HeaderMap {
    const NAMES: [&str; 2] = [
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ];
    let text = first(variable, NAMES).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        match header(pair) {
            Some((name, value)) => _ = headers.insert(name, value),
            None => {
                tracing::warn!("a header for the OTLP collector is no `name=value`; it is left out")
            }
        }
    }
    headers
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

fn warn_of_what_is_not_honoured(variable: impl Fn(&str) -> Option<String>) {
    if compression(&variable).is_some_and(|word| !is_one_of(&word, &["gzip", "none"])) {
        tracing::warn!("traces are sent without compression: natsway knows gzip only");
    }
    const PROTOCOL: [&str; 2] = [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ];
    let protocol = first(&variable, PROTOCOL);
    if protocol.is_some_and(|word| !is_one_of(&word, &["http/protobuf"])) {
        tracing::warn!("traces are sent as http/protobuf: natsway knows no other protocol");
    }
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words
        .iter()
        .any(|known| word.trim().eq_ignore_ascii_case(known))
}

fn said(variable: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.trim().is_empty())
}

/// In milliseconds, as the specification says; out of bounds, the bound.
fn timeout(variable: impl Fn(&str) -> Option<String>) -> Duration {
    let read = |name: &str| said(&variable, name)?.trim().parse().ok();
    let milliseconds =
        read("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| read("OTEL_EXPORTER_OTLP_TIMEOUT"));
    milliseconds.map_or(TIMEOUT, |milliseconds| {
        Duration::from_millis(milliseconds).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    })
}

/// What `OTEL_TRACES_SAMPLER` says of requests whose caller has not decided. Who has decided is asked by
/// `trust`, so the parent-based samplers mean the same here as those that are not.
fn share(variable: impl Fn(&str) -> Option<String>) -> f64 {
    let Some(sampler) = said(&variable, "OTEL_TRACES_SAMPLER") else {
        return SAMPLE;
    };
    let sampler = sampler.trim().to_ascii_lowercase();
    let share = match sampler.strip_prefix("parentbased_").unwrap_or(&sampler) {
        "always_on" => Some(1.0),
        "always_off" => Some(0.0),
        "traceidratio" => match said(&variable, "OTEL_TRACES_SAMPLER_ARG") {
            None => Some(1.0),
            Some(ratio) => ratio.trim().parse().ok(),
        },
        _ => None,
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .unwrap_or_else(|| {
            tracing::warn!(
                sample = SAMPLE,
                "OTEL_TRACES_SAMPLER or its argument is not known"
            );
            SAMPLE
        })
}

fn endpoint(
    settings: &config::Traces,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let said = |name: &str| said(&variable, name);
    let is =
        |name: &str, word: &str| said(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    let never = is("OTEL_TRACES_SAMPLER", "always_off") && settings.sample.is_none();
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") || never {
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

    fn in_environment<T>(
        read: impl Fn(&dyn Fn(&str) -> Option<String>) -> T,
        environment: &[(&str, &str)],
    ) -> T {
        read(&|name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_sampler_of_the_environment_says_how_many() {
        let of = |sampler: &str, argument: &str| {
            let pairs = [
                ("OTEL_TRACES_SAMPLER", sampler),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ];
            in_environment(|variable| share(variable), &pairs)
        };
        assert_eq!(of("", "0.5"), SAMPLE);
        assert_eq!(of("always_on", ""), 1.0);
        assert_eq!(of("parentbased_always_off", ""), 0.0);
        assert_eq!(of("traceidratio", "0.25"), 0.25);
        assert_eq!(of("parentbased_traceidratio", ""), 1.0);
        for wrong in [
            ("jaeger_remote", "1"),
            ("traceidratio", "2"),
            ("traceidratio", "x"),
        ] {
            assert_eq!(of(wrong.0, wrong.1), SAMPLE, "{wrong:?}");
        }
    }

    #[test]
    fn a_timeout_of_the_environment_counts_within_bounds() {
        const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
        const GENERAL: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
        for (pairs, milliseconds) in [
            (&[][..], 10_000),
            (&[(GENERAL, "2000")], 2000),
            (&[(GENERAL, "2000"), (OWN, "500")], 500),
            (&[(GENERAL, "soon")], 10_000),
            (&[(OWN, "0")], 100),
            (&[(OWN, "99999999")], 60_000),
        ] {
            let found = in_environment(|variable| timeout(variable), pairs);
            assert_eq!(found, Duration::from_millis(milliseconds), "{pairs:?}");
        }
    }

    #[test]
    fn headers_are_pairs_and_what_is_none_is_left_out() {
        let pairs = [(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "api-key=a%20b, x = y ,,nothing,=z,bad name=1",
        )];
        let found = in_environment(|variable| headers(variable), &pairs);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (&found["api-key"], &found["x"]),
            (
                &HeaderValue::from_static("a b"),
                &HeaderValue::from_static("y")
            )
        );
    }

    #[test]
    fn only_urls_of_http_are_usable() {
        for (endpoint, fits) in [
            ("http://c:4318/v1/traces", true),
            ("https://u:p@c/v1/traces", true),
            ("c:4318/v1/traces", false),
            ("grpc://c:4317", false),
            ("http:// c", false),
            ("", false),
        ] {
            assert_eq!(usable(endpoint).is_some(), fits, "{endpoint}");
        }
    }

    #[test]
    fn the_environment_can_switch_traces_off() {
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
        ] {
            assert_eq!(of(Some("http://a:4318"), &[off]), None);
        }
    }
}
