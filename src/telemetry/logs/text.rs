//! The text form: that of `tracing-subscriber`, with how often a line was held back behind it.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::Shared;

/// The form.
pub(super) struct Text {
    repeats: Shared,
    format: Format,
}

impl Text {
    /// In colours or without.
    pub(super) fn new(repeats: Shared, is_colourful: bool) -> Self {
        Self {
            repeats,
            format: Format::default().with_ansi(is_colourful),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let held_back = self.repeats.take_held_back(event.metadata());
        if held_back == 0 {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::with_capacity(256);
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} suppressed={held_back}", line.trim_end())
    }
}
