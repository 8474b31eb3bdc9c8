//! Log lines on standard output: JSON, one object a line, or text on a terminal.
//!
//! A line is a sentence and fields. It never holds a payload, a subject or a secret, and whatever a
//! client can choose is escaped in both forms.

mod json;
mod repeats;
mod text;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat};
use repeats::Shared;

/// The target of the lines that are written for requests.
pub const ACCESS: &str = "natsway::access";

/// The level of the process, which has one log.
static LEVEL: OnceLock<Level> = OnceLock::new();

type Level = reload::Handle<EnvFilter, Registry>;

/// A layer for lines on standard output, filtered by the configured level, and what sets the level later.
fn layer(log: &Log) -> (Box<dyn Layer<Registry> + Send + Sync>, Level) {
    let plain = tracing_subscriber::fmt::layer();
    let repeats = Shared::default();
    let (filter, level) = reload::Layer::new(filter(log));
    let filter = filter.and(repeats.clone());
    let layer = match is_json(log.format) {
        true => plain
            .event_format(json::Json(repeats))
            .with_filter(filter)
            .boxed(),
        false => plain
            .with_ansi(is_colourful())
            .event_format(text::Text::new(repeats, is_colourful()))
            .with_filter(filter)
            .boxed(),
    };
    (layer, level)
}

/// Writes log lines from here on, and logs panics as lines, too. Only the first call has an effect, as
/// in a test binary that starts several.
pub fn init(log: &Log) {
    let (layer, level) = layer(log);
    if tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .is_ok()
    {
        let _ = LEVEL.set(level);
    }
    std::panic::set_hook(Box::new(log_panic));
}

/// Filters by another level from here on.
pub fn set_level(log: &Log) {
    if let Some(level) = LEVEL.get() {
        // It fails only when the subscriber is gone, and then nobody logs.
        let _ = level.reload(filter(log));
    }
}

fn is_colourful() -> bool {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_wanted && std::io::stdout().is_terminal()
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stdout().is_terminal(),
    }
}

/// The configured level. The NATS client is held to warnings unless somebody names it: it writes a line
/// for each message it drops. What it says about connecting is left out, because natsway says that itself,
/// once, and not for each of the attempts it makes for ever.
fn filter(log: &Log) -> EnvFilter {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    if log.level.contains("async_nats") {
        return filter;
    }
    let quiet = ["async_nats=warn", "async_nats::connector=off"];
    quiet.into_iter().fold(filter, |filter, directive| {
        filter.add_directive(directive.parse().expect("a legal directive"))
    })
}

/// The message of a panic may quote what a client sent, so it is a field, which is escaped.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let thread = std::thread::current();
    tracing::error!(
        target: "natsway::panic",
        location,
        panic = message,
        thread = thread.name(),
        "a bug: please report it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_client_is_quiet_unless_it_is_named() {
        let log = |level: &str| Log {
            level: level.to_owned(),
            ..Log::default()
        };
        assert!(
            filter(&log("debug"))
                .to_string()
                .contains("async_nats=warn")
        );
        let named = filter(&log("info,async_nats=debug")).to_string();
        assert!(named.contains("async_nats=debug") && !named.contains("async_nats=warn"));
    }
}
