//! One consumer for all who follow the same messages.
//!
//! It lives as long as somebody reads, and a little longer, for whoever was cut off comes back. It is
//! made anew, from the last sequence on, whenever it may have missed something: a heartbeat that does
//! not come, a number that is skipped, another connection. So what its readers see has no gaps and
//! nothing twice.

mod life;
mod place;
mod pump;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::selection::Selection;
use super::window::{Memory, Window};
use crate::api::notice::EndReason;
use crate::problem::Problem;

pub(super) use life::run;
pub(super) use place::Place;

/// How long one attempt to make a consumer, or to look at the stream, may take.
const OPENING: Duration = Duration::from_secs(5);

/// How far a feed has come.
#[derive(Clone, Debug)]
pub(super) enum Status {
    /// Its consumer is not there yet; why, if it was tried.
    Opening(Option<Problem>),
    Live,
    /// It never will be.
    Refused(Problem),
    /// The stream is gone.
    Gone,
}

/// The feed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) of: Selection,
    window: Mutex<Window>,
    status: watch::Sender<Status>,
    /// Somebody has read, or left.
    moved: Notify,
    /// Somebody has left.
    left: Notify,
}

impl Feed {
    /// A feed with its first reader.
    pub(super) fn first(of: Selection, begin: u64, memory: Memory) -> (Arc<Self>, Place) {
        let mut window = Window::new(begin, memory);
        let seat = window.sit();
        let feed = Arc::new(Self {
            of,
            window: Mutex::new(window),
            status: watch::Sender::new(Status::Opening(None)),
            moved: Notify::new(),
            left: Notify::new(),
        });
        let place = Place {
            feed: Arc::clone(&feed),
            seat,
        };
        (feed, place)
    }

    /// A place at it; none where it has ended.
    pub(super) fn join(self: &Arc<Self>) -> Option<Place> {
        let mut window = self.window.lock();
        if window.end().is_some() {
            return None;
        }
        Some(Place {
            seat: window.sit(),
            feed: Arc::clone(self),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Window)) {
        let wakers = {
            let mut window = self.window.lock();
            change(&mut window);
            window.take_wakers()
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn end(&self, reason: EndReason, status: Status) {
        self.status.send_replace(status);
        self.change(|window| window.set_end(reason));
    }
}
