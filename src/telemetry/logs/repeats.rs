//! Holds back what repeats without end, so that one broken thing does not fill a disk.
//!
//! Counted by the place in the code that says it; how many were held back stands in the next line from
//! there. Access lines are asked for and never held back, and neither is what only `debug` shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use super::ACCESS;

/// In a span of time, from one place.
const LINES: u32 = 20;
const SPAN: Duration = Duration::from_secs(10);

/// What was said from where. As large as there are places in the code that say something.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<Identifier, Place>>);

#[derive(Debug)]
struct Place {
    since: Instant,
    said: u32,
    held_back: u64,
}

impl Repeats {
    fn permits(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        if *metadata.level() > Level::INFO || metadata.target() == ACCESS {
            return true;
        }
        let mut places = self.0.lock();
        let place = places.entry(metadata.callsite()).or_insert(Place {
            since: now,
            said: 0,
            held_back: 0,
        });
        if now.duration_since(place.since) >= SPAN {
            (place.since, place.said) = (now, 0);
        }
        let permitted = place.said < LINES;
        match permitted {
            true => place.said += 1,
            false => place.held_back += 1,
        }
        permitted
    }

    /// How many were held back since the last line from the same place.
    pub(super) fn take_held_back(&self, metadata: &Metadata<'_>) -> u64 {
        let mut places = self.0.lock();
        let place = places.get_mut(&metadata.callsite());
        place.map_or(0, |place| std::mem::take(&mut place.held_back))
    }
}

/// A handle, for the filter and for the lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Repeats>);

impl std::ops::Deref for Shared {
    type Target = Repeats;

    fn deref(&self) -> &Repeats {
        &self.0
    }
}

impl<S: Subscriber> Filter<S> for Shared {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.permits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::fmt::FormatEvent;
    use tracing_subscriber::fmt::format::DefaultFields;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Layer as _, Registry};

    use super::super::json::Json;
    use super::super::text::Text;
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_repeats_is_held_back_and_counted() {
        let repeats = Shared::default();
        said(&repeats, Json(repeats.clone()), "\"suppressed\":7");
    }

    #[test]
    fn the_text_form_counts_it_too() {
        let repeats = Shared::default();
        said(&repeats, Text::new(repeats.clone(), false), " suppressed=7");
    }

    fn said<F>(repeats: &Shared, form: F, counted: &str)
    where
        F: FormatEvent<Registry, DefaultFields> + Send + Sync + 'static,
    {
        let sink = Sink::default();
        let to = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(form)
            .with_writer(move || to.clone())
            .with_filter(repeats.clone());
        let say = || tracing::warn!("again");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..LINES + 7 {
                say();
                tracing::info!(target: ACCESS, "answered");
            }
            for place in repeats.0.0.lock().values_mut() {
                place.since = place.since.checked_sub(SPAN).unwrap();
            }
            say();
        });
        let text = String::from_utf8(sink.0.lock().clone()).unwrap();
        let again: Vec<&str> = text.lines().filter(|line| line.contains("again")).collect();
        assert_eq!(again.len(), LINES as usize + 1);
        assert!(again[LINES as usize].contains(counted), "{again:?}");
        assert!(!again[0].contains("suppressed"));
        assert_eq!(text.matches("answered").count(), LINES as usize + 7);
    }
}
