//! A reader's place at a feed: what it takes, and what it waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use tokio::time::{Instant, timeout_at};

use super::{Feed, Status};
use crate::api::jetstream::replay::window::{Found, Slot};
use crate::api::notice::EndReason;
use crate::problem::{Code, Problem};

/// One reader's place at a feed.
#[derive(Debug)]
pub(in crate::api::jetstream::replay) struct Place {
    pub(super) feed: Arc<Feed>,
    pub(super) seat: usize,
}

impl Place {
    /// Waits until the feed has its consumer.
    pub(in crate::api::jetstream::replay) async fn live(
        &self,
        deadline: Instant,
    ) -> Result<(), Problem> {
        let mut status = self.feed.status.subscribe();
        let live = status.wait_for(|status| !matches!(status, Status::Opening(_)));
        match timeout_at(deadline, live).await {
            Ok(Ok(status)) => match &*status {
                Status::Refused(problem) => Err(problem.clone()),
                Status::Gone => Err(Problem::new(Code::StreamNotFound)),
                Status::Opening(_) | Status::Live => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err(self.trouble()),
        }
    }

    fn trouble(&self) -> Problem {
        match &*self.feed.status.borrow() {
            Status::Opening(Some(problem)) => problem.clone(),
            _ => Problem::new(Code::JetStreamUnavailable),
        }
    }

    /// From here on the feed has everything.
    pub(in crate::api::jetstream::replay) fn low(&self) -> u64 {
        self.feed.window.lock().low()
    }

    /// Why nothing follows, if so.
    pub(in crate::api::jetstream::replay) fn end(&self) -> Option<EndReason> {
        self.feed.window.lock().end()
    }

    /// Whether a reader at this position finds all that follows.
    pub(in crate::api::jetstream::replay) fn covers(&self, position: u64) -> bool {
        self.feed.window.lock().covers(position)
    }

    /// Takes what follows a position; where there is nothing, the task is woken when there is.
    pub(in crate::api::jetstream::replay) fn take(
        &self,
        position: u64,
        into: &mut VecDeque<Slot>,
        cx: &Context<'_>,
    ) -> Found {
        let found = {
            let mut window = self.feed.window.lock();
            let found = window.take(position, into);
            if matches!(found, Found::Nothing(_)) {
                window.wait(self.seat, cx.waker());
            }
            found
        };
        if found == Found::Some {
            self.feed.moved.notify_one();
        }
        found
    }

    /// Wants to be woken when something happens.
    pub(in crate::api::jetstream::replay) fn wait(&self, cx: &Context<'_>) {
        self.feed.window.lock().wait(self.seat, cx.waker());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.feed.window.lock().leave(self.seat);
        self.feed.moved.notify_one();
        self.feed.left.notify_one();
    }
}
