//! What routes have that outlives a reload: found again by the route's name, as long as somebody uses it.
//!
//! A reload builds all routes anew. What a route counts must not begin anew with it: a rate would be given
//! twice, a limit would not see the requests that run, a dead responder would be tried by everybody again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Things by name and by the settings they were made from. A thing goes with the last routes, or the last
/// request, that use it; until then, whoever says the same name and settings gets the same one.
#[derive(Debug)]
pub struct Kept<S, T>(Arc<Mutex<Names<S, T>>>);

type Names<S, T> = HashMap<String, Vec<Known<S, T>>>;

/// A thing, what it was made from, and no more.
type Known<S, T> = (S, Weak<T>);

impl<S, T> Clone for Kept<S, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, T> Default for Kept<S, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: PartialEq, T> Kept<S, T> {
    /// The one that is called so and was made from these settings, or a new one.
    #[must_use]
    pub fn of(&self, name: &str, settings: S, make: impl FnOnce() -> T) -> Arc<T> {
        let mut names = self.0.lock();
        names.retain(|_, known| {
            known.retain(|(_, thing)| thing.strong_count() > 0);
            !known.is_empty()
        });
        let known = names.entry(name.to_owned()).or_default();
        let same = known.iter().filter(|(old, _)| *old == settings);
        if let Some(found) = same.filter_map(|(_, thing)| thing.upgrade()).next() {
            return found;
        }
        let thing = Arc::new(make());
        known.push((settings, Arc::downgrade(&thing)));
        thing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_settings_are_the_same_thing_while_somebody_uses_it() {
        let kept = Kept::<u8, u8>::default();
        let first = kept.of("a", 1, || 1);
        assert!(Arc::ptr_eq(&first, &kept.of("a", 1, || 2)));
        let other = kept.of("a", 2, || 3);
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(!Arc::ptr_eq(&first, &kept.of("b", 1, || 4)));
        // Back to settings that a request still runs under.
        assert!(Arc::ptr_eq(&first, &kept.of("a", 1, || 5)));
        drop((first, other));
        assert_eq!(*kept.of("a", 1, || 6), 6);
        let _one = kept.of("c", 1, || 7);
        assert_eq!(kept.0.lock().len(), 1, "what nobody uses is forgotten");
    }
}
