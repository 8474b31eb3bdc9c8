//! References that each worker counts for itself.

use std::ops::Deref;
use std::sync::Arc;

use super::stripes::{Padded, Stripes};

/// Something that every request needs for as long as it lives. The count of an `Arc` is a word that all
/// workers would write, twice a request; here each has a count of its own, and what is shared only counts
/// the workers.
#[derive(Debug)]
pub struct Striped<T: ?Sized>(Stripes<Own<T>>);

/// A reference to it. Padded, so that no other worker's count stands on the line of its own.
#[derive(Debug)]
pub struct Own<T: ?Sized>(Arc<Padded<Arc<T>>>);

impl<T: ?Sized> Striped<T> {
    /// Shares it.
    #[must_use]
    pub fn new(shared: impl Into<Arc<T>>) -> Self {
        let shared = shared.into();
        Self(Stripes::new(|| Own(Arc::new(Padded(Arc::clone(&shared))))))
    }

    /// Another reference.
    #[must_use]
    pub fn own(&self) -> Own<T> {
        self.0.mine().clone()
    }
}

impl<T: ?Sized> Deref for Striped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.mine()
    }
}

impl<T: ?Sized> Clone for Own<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_lives_as_long_as_a_reference() {
        let shared = Arc::new(7);
        let striped: Striped<i32> = Striped::new(Arc::clone(&shared));
        let own = striped.own();
        drop(striped);
        assert_eq!((*own, Arc::strong_count(&shared)), (7, 2));
        drop(own);
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
