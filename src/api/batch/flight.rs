//! What is under way: sent, and not yet known.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::Run;
use super::source::Addressed;
use crate::config::Confirm;
use crate::nats::{Failure, Inbound, Pending, PendingReply};

/// How much may be under way. For fences what the contract names; for acks in bytes, too, because a
/// message is kept until its ack is there.
const WINDOW_BYTES: usize = 1024 * 1024;
const FENCED_LINES: usize = 4096;
const ACKS: usize = 256;

/// A reply where one was waited for.
pub(super) type Outcome = Result<Option<Inbound>, Failure>;

type Future_ = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What its outcome is about.
#[derive(Debug)]
pub(super) enum Sent {
    /// A run, by its lines.
    Run(Vec<u64>),
    /// A message that a stream has to store.
    ForStream(u64, Addressed),
}

#[derive(Debug)]
enum Waiting {
    Run(Pending),
    Reply(PendingReply),
    /// It is the oldest one, which is being waited for.
    Oldest,
}

#[derive(Debug)]
struct Item {
    sent: Sent,
    lines: usize,
    weight: usize,
    waiting: Waiting,
}

/// All of it, the oldest first.
pub(super) struct Flight {
    items: VecDeque<Item>,
    oldest: Option<Future_>,
    /// How long the oldest may take once all before it are known: the deadline for progress.
    timeout: Duration,
    lines: usize,
    lines_max: usize,
    weight: usize,
}

impl Flight {
    pub(super) fn new(confirm: Confirm, timeout: Duration) -> Self {
        Self {
            items: VecDeque::new(),
            oldest: None,
            timeout,
            lines: 0,
            lines_max: match confirm {
                Confirm::Stream => ACKS,
                Confirm::Server | Confirm::None => FENCED_LINES,
            },
            weight: 0,
        }
    }

    /// Whether one more message may be under way.
    pub(super) const fn has_room(&self, weight: usize) -> bool {
        self.lines == 0 || (self.lines < self.lines_max && self.weight + weight <= WINDOW_BYTES)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn run_sent(&mut self, run: &mut Run, pending: Pending) {
        let next = Run::with_capacity(run.lines.len());
        let Run { lines, weight, .. } = std::mem::replace(run, next);
        self.push(Item {
            lines: lines.len(),
            sent: Sent::Run(lines),
            weight,
            waiting: Waiting::Run(pending),
        });
    }

    pub(super) fn stored_soon(
        &mut self,
        line: u64,
        addressed: Addressed,
        weight: usize,
        reply: PendingReply,
    ) {
        self.push(Item {
            lines: 1,
            sent: Sent::ForStream(line, addressed),
            weight,
            waiting: Waiting::Reply(reply),
        });
    }

    fn push(&mut self, item: Item) {
        self.lines += item.lines;
        self.weight += item.weight;
        self.items.push_back(item);
    }

    /// Waits for the oldest. Can be given up and called again; waits for ever where there is none.
    pub(super) async fn oldest(&mut self) -> (Sent, Outcome) {
        let Some(item) = self.items.front_mut() else {
            return std::future::pending().await;
        };
        let oldest = self.oldest.get_or_insert_with(|| {
            let waiting = std::mem::replace(&mut item.waiting, Waiting::Oldest);
            Box::pin(outcome(waiting, Instant::now() + self.timeout))
        });
        let outcome = oldest.await;
        self.oldest = None;
        let sent = self.pop().expect("the oldest was looked at above");
        (sent, outcome)
    }

    /// Gives up on all of it: each that has no outcome by now gets none.
    pub(super) async fn give_up(&mut self) -> Option<(Sent, Outcome)> {
        self.timeout = Duration::ZERO;
        match self.is_empty() {
            true => None,
            false => Some(self.oldest().await),
        }
    }

    fn pop(&mut self) -> Option<Sent> {
        let item = self.items.pop_front()?;
        self.lines -= item.lines;
        self.weight -= item.weight;
        Some(item.sent)
    }
}

async fn outcome(waiting: Waiting, deadline: Instant) -> Outcome {
    match waiting {
        Waiting::Run(pending) => pending.outcome(deadline).await.map(|()| None),
        Waiting::Reply(reply) => reply.reply(deadline).await.map(|reply| Some(reply.message)),
        Waiting::Oldest => Err(Failure::Lost),
    }
}
