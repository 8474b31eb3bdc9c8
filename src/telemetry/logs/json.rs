//! The JSON form: `ts`, `level`, `target`, `msg`, then the event's fields beside them, flat, because that
//! is what log stores index. Values keep their type; what is absent is left out.

use std::fmt::{self, Write as _};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::Shared;

const TIME: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The form.
pub(super) struct Json(pub(super) Shared);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line(String::with_capacity(256));
        let now = OffsetDateTime::now_utc();
        line.text("ts", &now.format(TIME).unwrap_or_default());
        line.text("level", event.metadata().level().as_str());
        line.text("target", event.metadata().target());
        event.record(&mut line);
        let held_back = self.0.take_held_back(event.metadata());
        if held_back > 0 {
            line.member("suppressed", held_back);
        }
        writer.write_str(&line.0)?;
        writer.write_str("}\n")
    }
}

/// An object that is not closed yet.
struct Line(String);

impl Line {
    fn member(&mut self, name: &str, value: impl fmt::Display) {
        let separator = if self.0.is_empty() { '{' } else { ',' };
        // The message is a field like any other; this is what it is called in a line.
        let name = if name == "message" { "msg" } else { name };
        let _ = write!(self.0, "{separator}\"{name}\":{value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.member(name, Value::from(value));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field.name(), &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        self.member(field.name(), Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_object_and_forges_no_other() {
        let sink = Sink::default();
        let to = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Json(Shared::default()))
            .with_writer(move || to.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let forged = "a\n{\"level\":\"ERROR\"}\u{1b}[2J";
            let absent: Option<&str> = None;
            tracing::info!(target: "t", name = forged, n = 7_u64, x = 0.5, ok = true, absent, "said");
        });
        let bytes = sink.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["msg"], "said");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "t");
        assert_eq!(line["n"], 7);
        assert_eq!(line["x"], 0.5);
        assert_eq!(line["ok"], true);
        assert!(line["name"].as_str().unwrap().starts_with("a\n{"));
        assert!(line.get("absent").is_none());
        assert_eq!(line["ts"].as_str().unwrap().len(), 24);
    }
}
