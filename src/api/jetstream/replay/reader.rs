//! One client's replay: what it reads, in order, each message once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Replays;
use super::catch_up::{CatchUp, Step};
use super::feed::Place;
use super::lease::Lease;
use super::selection::Selection;
use super::start::{trimmed, unreadable};
use super::window::{Found, Slot};
use crate::api::deliveries::Deliveries;
use crate::api::jetstream::access::Access;
use crate::api::notice::{EndReason, Gap, Notice};
use crate::api::sse;
use crate::api::stream_body::{Feed, Form, Item};
use crate::api::subscribe::{Shape, View};

/// Where a reader stands at its beginning.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) of: Arc<Selection>,
    /// The sequence it has read, or need not read.
    pub(super) position: u64,
    /// What the client showed, where it missed something since.
    pub(super) missed: Option<(String, Gap)>,
    /// It ends when it has come so far.
    pub(super) until: Option<u64>,
    pub(super) place: Option<Place>,
    pub(super) lease: Option<Lease>,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Reader {
    of: Arc<Selection>,
    replays: Arc<Replays>,
    access: Option<Access>,
    shape: Shape,
    left: Option<u64>,
    position: u64,
    until: Option<u64>,
    missed: Option<(String, Gap)>,
    place: Option<Place>,
    catch_up: Option<CatchUp>,
    ready: VecDeque<Slot>,
    deliveries: Deliveries,
}

impl Reader {
    pub(super) fn new(
        opened: Opened,
        replays: &Arc<Replays>,
        access: Option<Access>,
        (shape, view): (Shape, View),
        deliveries: Deliveries,
    ) -> Self {
        let Opened { of, place, .. } = opened;
        let catch_up = opened
            .lease
            .map(|lease| CatchUp::new(replays, &of, Some(lease)));
        Self {
            of,
            replays: Arc::clone(replays),
            access,
            shape,
            left: view.max,
            position: opened.position,
            until: opened.until,
            missed: opened.missed,
            place,
            catch_up,
            ready: VecDeque::new(),
            deliveries,
        }
    }

    fn id(&self) -> String {
        self.of.at(self.position).to_string()
    }

    /// Why it ends here, if it does.
    fn end(&self) -> Option<EndReason> {
        if self.left == Some(0) {
            return Some(EndReason::Max);
        }
        if self.until.is_some_and(|until| self.position >= until) {
            return Some(EndReason::CaughtUp);
        }
        self.place.as_ref().and_then(Place::end)
    }

    /// What a client sees of a slot, if it may see it and has not.
    fn show(&mut self, slot: Slot) -> Option<Item> {
        if slot.seq() <= self.position {
            return None;
        }
        let before = std::mem::replace(&mut self.position, slot.seq());
        match slot {
            Slot::Message(seq, delivery) => {
                if self.until.is_some_and(|until| seq > until) {
                    return None;
                }
                let subject = &delivery.message.subject;
                let denied = |access: &Access| access.permit_message(subject).is_err();
                if self.access.as_ref().is_some_and(denied) {
                    return None;
                }
                if let Some(left) = &mut self.left {
                    *left -= 1;
                }
                self.deliveries.begin(&delivery);
                self.replays.shown.inc();
                Some(Item::Message(self.shape.encode(&delivery)))
            }
            Slot::Trimmed(from, to) => {
                let all = self.of.filters.is_empty();
                Some(self.gap(trimmed(from.max(before + 1), to, all)))
            }
            Slot::Unreadable(seq) => Some(self.gap(unreadable(seq))),
        }
    }

    fn gap(&self, gap: Gap) -> Item {
        self.replays.count_gap();
        if self.shape.is_sse() {
            return Item::Message(sse::gap_to(&self.id(), gap));
        }
        Item::Notice(Notice::Gap(gap))
    }

    /// Brings something into `ready`, or moves the position; else the task is woken when it can.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<EndReason>> {
        if let Some(place) = &self.place
            && place.covers(self.position)
        {
            self.catch_up = None;
            match place.take(self.position, &mut self.ready, cx) {
                Found::Some => return Poll::Ready(None),
                Found::Nothing(seq) => {
                    self.position = self.position.max(seq);
                    // It may have ended just before it was asked.
                    return place
                        .end()
                        .map_or(Poll::Pending, |end| Poll::Ready(Some(end)));
                }
                Found::Overtaken => {}
            }
        }
        let known = self.known();
        let catch_up = self
            .catch_up
            .get_or_insert_with(|| CatchUp::new(&self.replays, &self.of, None));
        match catch_up.poll(self.position, known, cx) {
            Poll::Ready(Step::Slot(slot)) => self.ready.push_back(slot),
            Poll::Ready(Step::Both(one, two)) => self.ready.extend([one, two]),
            Poll::Ready(Step::Nothing(seq)) => self.position = self.position.max(seq),
            Poll::Ready(Step::End(reason)) => return Poll::Ready(Some(reason)),
            Poll::Pending => {
                if let Some(place) = &self.place {
                    place.wait(cx);
                    if let Some(end) = place.end() {
                        return Poll::Ready(Some(end));
                    }
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(None)
    }

    /// How far the stream has come, as far as this reader knows.
    fn known(&self) -> u64 {
        let low = self.place.as_ref().map_or(0, Place::low);
        low.max(self.until.unwrap_or(0)).max(self.position)
    }
}

impl Feed for Reader {
    fn written(&mut self, all: bool, now: Instant) {
        self.deliveries.written(all, now);
    }

    fn taken(&mut self) {
        self.deliveries.taken();
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some((_, gap)) = self.missed.take() {
            return Poll::Ready(self.gap(gap));
        }
        loop {
            if let Some(reason) = self.end() {
                return Poll::Ready(Item::Notice(Notice::End(reason)));
            }
            if let Some(slot) = self.ready.pop_front() {
                match self.show(slot) {
                    Some(item) => return Poll::Ready(item),
                    None => continue,
                }
            }
            if let Some(reason) = std::task::ready!(self.poll_more(cx)) {
                return Poll::Ready(Item::Notice(Notice::End(reason)));
            }
        }
    }

    /// The position before the first message to come. A client that missed something keeps its own
    /// until it has been told: cut off in between, it would never learn of it.
    fn write_first(&mut self, out: &mut Vec<u8>) {
        if self.shape.is_sse() {
            let shown = self.missed.as_ref().map(|(shown, _)| shown.clone());
            sse::write_id(&shown.unwrap_or_else(|| self.id()), out);
        }
    }

    fn write_keep_alive(&mut self, form: Form, out: &mut Vec<u8>) {
        match form {
            Form::Sse => sse::write_id(&self.id(), out),
            Form::Ndjson => form.write_keep_alive(out),
        }
    }
}
