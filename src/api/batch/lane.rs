//! The ways of a batch: one over each link that its subjects lead to.

use std::ops::{Index, IndexMut, Range};
use std::sync::Arc;

use crate::nats::{Connection, Link, Outbound};

/// What is handed over to a connection at once. Were it more, a lost connection could leave more
/// than this unknown.
const RUN_BYTES_MAX: usize = 64 * 1024;
const RUN_MESSAGES_MAX: usize = 512;

/// Messages that are sent together and share a fate.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) messages: Vec<Outbound>,
    pub(super) lines: Vec<u64>,
    pub(super) weight: usize,
}

impl Run {
    /// One that is likely to hold as many as the one before.
    pub(super) fn with_capacity(messages: usize) -> Self {
        Self {
            messages: Vec::with_capacity(messages),
            lines: Vec::with_capacity(messages),
            weight: 0,
        }
    }

    /// Whether a message may still join.
    pub(super) fn fits(&self, weight: usize) -> bool {
        self.messages.is_empty()
            || (self.weight + weight <= RUN_BYTES_MAX && self.messages.len() < RUN_MESSAGES_MAX)
    }

    pub(super) fn push(&mut self, line: u64, message: Outbound, weight: usize) {
        self.weight += weight;
        self.messages.push(message);
        self.lines.push(line);
    }
}

/// One link, the connection it had last, and the run that is being filled.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) link: Arc<Link>,
    pub(super) connection: Arc<Connection>,
    pub(super) run: Run,
}

/// All of them, each known by its number.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<Lane>);

impl Lanes {
    /// Opens one; it keeps its number.
    pub(super) fn open(&mut self, link: &Arc<Link>, connection: Arc<Connection>) -> usize {
        self.0.push(Lane {
            link: Arc::clone(link),
            connection,
            run: Run::default(),
        });
        self.0.len() - 1
    }

    pub(super) const fn all(&self) -> Range<usize> {
        0..self.0.len()
    }

    /// The one over a link.
    pub(super) fn known(&self, link: &Arc<Link>) -> Option<usize> {
        self.0.iter().position(|lane| Arc::ptr_eq(&lane.link, link))
    }

    /// The run over a link, if a message of this weight can join it at once.
    pub(super) fn with_room(
        &mut self,
        link: &Arc<Link>,
        message: &Outbound,
        weight: usize,
    ) -> Option<&mut Run> {
        let lane = self.known(link)?;
        let Lane {
            connection, run, ..
        } = &mut self.0[lane];
        let joins =
            run.fits(weight) && !connection.is_uncertain() && connection.check(message).is_ok();
        joins.then_some(run)
    }

    /// The lines that were gathered and not sent; they are not any more.
    pub(super) fn unsent(&mut self) -> Vec<u64> {
        let lanes = self.0.iter_mut();
        let runs = lanes.map(|lane| std::mem::take(&mut lane.run));
        runs.flat_map(|run| run.lines).collect()
    }
}

impl Index<usize> for Lanes {
    type Output = Lane;

    fn index(&self, lane: usize) -> &Lane {
        &self.0[lane]
    }
}

impl IndexMut<usize> for Lanes {
    fn index_mut(&mut self, lane: usize) -> &mut Lane {
        &mut self.0[lane]
    }
}
