//! A reader that is behind: it waits for a place, makes a consumer that begins after its position,
//! and reads until the feed has all that follows.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::Replays;
use super::consumer::{Begin, Consumer, Refused};
use super::lease::{Found, Lease};
use super::look::Look;
use super::places::Shelf;
use super::selection::Selection;
use super::window::Slot;
use crate::api::notice::EndReason;
use crate::nats::Call;
use crate::problem::{Code, Problem};

/// How long one attempt to make a consumer may take.
const OPENING: Duration = Duration::from_secs(5);
/// Between two attempts; it grows.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a reader comes by.
#[derive(Debug)]
pub(super) enum Step {
    Slot(Slot),
    Both(Slot, Slot),
    /// There is nothing up to this sequence.
    Nothing(u64),
    End(EndReason),
}

type Fetching = BoxFuture<'static, (Option<Lease>, Step)>;

/// The reader's way to the present.
pub(super) struct CatchUp {
    replays: Arc<Replays>,
    of: Arc<Selection>,
    shelf: Arc<Shelf>,
    fetching: Option<Fetching>,
}

impl std::fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatchUp").finish_non_exhaustive()
    }
}

impl CatchUp {
    /// With a lease, if there is one already.
    pub(super) fn new(replays: &Arc<Replays>, of: &Arc<Selection>, lease: Option<Lease>) -> Self {
        Self {
            replays: Arc::clone(replays),
            of: Arc::clone(of),
            shelf: replays.places.shelf(lease),
            fetching: None,
        }
    }

    /// The next step of a reader at `position`, who knows that the stream has reached `known`.
    pub(super) fn poll(&mut self, position: u64, known: u64, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Some(fetching) = &mut self.fetching {
                let (lease, step) = std::task::ready!(fetching.as_mut().poll(cx));
                self.fetching = None;
                *self.shelf.lock() = lease;
                return Poll::Ready(step);
            }
            let mut lease = self.shelf.lock().take();
            match lease.as_mut().and_then(|lease| lease.try_next(&self.of)) {
                Some(Found::Message(delivery)) => {
                    let (slot, fetch) = (Slot::message(*delivery), self.fetch(position, known));
                    if let Some(lease) = lease.take_if(|lease| fetch.suspects(lease, &slot)) {
                        self.fetching = Some(Box::pin(fetch.explain(lease, slot)));
                        continue;
                    }
                    *self.shelf.lock() = lease;
                    return Poll::Ready(Step::Slot(slot));
                }
                Some(Found::Nothing(seq)) => {
                    *self.shelf.lock() = lease;
                    return Poll::Ready(Step::Nothing(seq));
                }
                Some(Found::Broken) => {
                    drop(lease);
                    let fetch = self.fetch(position, known);
                    self.fetching = Some(Box::pin(fetch.run_after_break()));
                    continue;
                }
                Some(Found::Ended) | None => {}
            }
            self.fetching = Some(Box::pin(self.fetch(position, known).run(lease)));
        }
    }

    fn fetch(&self, position: u64, known: u64) -> Fetch {
        Fetch {
            replays: Arc::clone(&self.replays),
            of: Arc::clone(&self.of),
            position,
            known,
            pause: PAUSE,
            carefully: false,
        }
    }
}

/// One fetch, which owns what it needs: the connection's task may drop it at any time.
struct Fetch {
    replays: Arc<Replays>,
    of: Arc<Selection>,
    position: u64,
    known: u64,
    pause: Duration,
    /// A consumer broke here.
    carefully: bool,
}

impl Fetch {
    async fn run(mut self, mut lease: Option<Lease>) -> (Option<Lease>, Step) {
        loop {
            let yields =
                |lease: &Lease| lease.has_had_its_turn() && self.replays.places.waiting() > 0;
            if lease.as_ref().is_some_and(yields) {
                lease = None;
            }
            let mut held = match lease.take() {
                Some(lease) => lease,
                None => match self.open().await {
                    Ok((lease, None)) => lease,
                    Ok((lease, Some(step))) => return (Some(lease), step),
                    Err(Some(step)) => return (None, step),
                    Err(None) => continue,
                },
            };
            if let Some(seq) = held.nothing_up_to().filter(|seq| *seq > self.position) {
                return (Some(held), Step::Nothing(seq));
            }
            if held.must_look(&self.of, self.position)
                && let Ok(Some(trimmed)) = self.trimmed_before(u64::MAX).await
            {
                held.has_looked();
                return (Some(held), Step::Slot(trimmed));
            }
            if held.pull(self.known).await.is_err() {
                drop(held);
                if let Some(slot) = self.broke().await {
                    return (None, Step::Slot(slot));
                }
                continue;
            }
            match held.next(&self.of).await {
                Found::Message(delivery) => {
                    let slot = Slot::message(*delivery);
                    if self.suspects(&held, &slot) {
                        return self.explain(held, slot).await;
                    }
                    return (Some(held), Step::Slot(slot));
                }
                Found::Nothing(seq) => return (Some(held), Step::Nothing(seq)),
                Found::Ended => lease = Some(held),
                Found::Broken => {
                    drop(held);
                    if let Some(slot) = self.broke().await {
                        return (None, Step::Slot(slot));
                    }
                }
            }
        }
    }

    /// A lease, and what there is to say at once. An error is the end, or nothing to be tried again.
    async fn open(&mut self) -> Result<(Lease, Option<Step>), Option<Step>> {
        let place = self.replays.places.take().await;
        let call = Call {
            deadline: Instant::now() + OPENING,
            wait: true,
        };
        let begin = Begin::After(self.position);
        match Consumer::open(&self.replays.api, &self.of, begin, call).await {
            Ok((consumer, look)) => {
                let memory = self.replays.memory.clone();
                let mut lease = Lease::new(consumer, &self.of, place, memory, self.known);
                if self.carefully {
                    lease.take_one_by_one();
                }
                let trimmed = self.of.trimmed(self.position, u64::MAX, &look);
                Ok((lease, trimmed.map(Step::Slot)))
            }
            Err(Refused::Gone) => Err(Some(Step::End(EndReason::StreamDeleted))),
            Err(Refused::Problem(problem)) if problem.code() == Code::NatsPermissionDenied => {
                Err(Some(Step::End(EndReason::PermissionDenied)))
            }
            Err(Refused::Problem(_)) => {
                drop(place);
                self.rest().await;
                Err(None)
            }
        }
    }

    /// What the stream has let go of before a sequence; whoever reads slowly may be overtaken by it.
    async fn trimmed_before(&self, before: u64) -> Result<Option<Slot>, Problem> {
        let call = Call {
            deadline: Instant::now() + OPENING,
            wait: true,
        };
        let look = Look::at(&self.replays.api, &self.of.stream, call).await?;
        Ok(self.of.trimmed(self.position, before, &look))
    }

    fn suspects(&self, lease: &Lease, slot: &Slot) -> bool {
        lease.is_suspicious(&self.of, self.position, slot.seq())
    }

    /// A message before which others are missing, with what became of them. Where the stream cannot
    /// be asked, it is read again from there.
    async fn explain(mut self, lease: Lease, slot: Slot) -> (Option<Lease>, Step) {
        match self.trimmed_before(slot.seq()).await {
            Ok(Some(trimmed)) => (Some(lease), Step::Both(trimmed, slot)),
            Ok(None) => (Some(lease), Step::Slot(slot)),
            Err(_) => {
                drop(lease);
                self.rest().await;
                (None, Step::Nothing(self.position))
            }
        }
    }

    async fn run_after_break(mut self) -> (Option<Lease>, Step) {
        match self.broke().await {
            Some(slot) => (None, Step::Slot(slot)),
            None => self.run(None).await,
        }
    }

    /// Finds the message that broke it, or waits a while.
    async fn broke(&mut self) -> Option<Slot> {
        self.carefully = true;
        let api = &self.replays.api;
        let found = self.of.unreadable(api, self.position).await;
        if found.is_none() {
            self.rest().await;
        }
        found
    }

    async fn rest(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
