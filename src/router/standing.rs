//! What the routes in force stand on, which those of the next configuration may go on standing on.

use std::sync::Arc;

use crate::config::{Breaker, Concurrency, Rate};
use crate::layers::admission::Places;
use crate::layers::breaker::Circuit;
use crate::layers::kept;
use crate::layers::rate::RateLimit;

/// What routes find again by their names after a reload.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// What was taken of a rate, while it is the same rate.
    pub rates: kept::Kept<Rate, RateLimit>,
    /// What failed, while the breaker has the same settings.
    pub circuits: kept::Kept<Breaker, Circuit>,
    /// Who runs. Whatever the limit is now, they count.
    pub places: kept::Kept<(), Places>,
}

/// What one set of routes stands on. Building them changes nothing, as they may turn out to be wrong; what
/// they share with others is theirs when they come into force.
#[derive(Debug, Default)]
pub(super) struct Standing {
    places: Vec<(Arc<Places>, Concurrency)>,
    circuits: Vec<Arc<Circuit>>,
}

impl Standing {
    /// What one of the routes stands on.
    pub(super) fn add(
        &mut self,
        places: &Arc<Places>,
        limits: Concurrency,
        circuit: Option<&Arc<Circuit>>,
    ) {
        self.places.push((Arc::clone(places), limits));
        self.circuits.extend(circuit.cloned());
    }

    /// Comes into force, after the others if there were some.
    pub(super) fn enter(&self, after: Option<&Self>) {
        for (places, limits) in &self.places {
            places.set_limits(*limits);
        }
        let before = after.map_or(&[][..], |after| &after.circuits);
        let is_kept = |old: &Arc<Circuit>| self.circuits.iter().any(|new| Arc::ptr_eq(old, new));
        for old in before.iter().filter(|old| !is_kept(old)) {
            old.hide();
        }
        for circuit in &self.circuits {
            circuit.show();
        }
    }
}
