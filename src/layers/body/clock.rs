//! The time a body may take.

use std::borrow::Borrow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::layers::deadline::Deadline;
use crate::lifecycle::Drain;
use crate::problem::{Code, Problem};

/// The clock of one body. The timer is made when there is something to wait for, which a small body that
/// came with its head never does.
pub(super) struct Clock<D> {
    limit: Limit,
    drain: D,
    waiting: Option<Pin<Box<Waiting>>>,
}

pin_project! {
    struct Waiting {
        #[pin]
        sleep: Sleep,
        #[pin]
        expired: WaitForCancellationFutureOwned,
    }
}

#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// All of it within that and before the deadline; late from half of the request's time on.
    Whole(Duration, Deadline),
    /// Something within that.
    Silence(Duration),
}

impl<D: Borrow<Drain>> Clock<D> {
    pub(super) const fn new(limit: Limit, drain: D) -> Self {
        Self {
            limit,
            drain,
            waiting: None,
        }
    }

    /// Why no more is waited for, once that is so. A message whose body was not there yet when natsway
    /// had to end was not sent, and only here is that known; of a streamed body a part was.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Problem> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let at = match self.limit {
                Limit::Whole(limit, deadline) => deadline.at.min(Instant::now() + limit),
                Limit::Silence(limit) => Instant::now() + limit,
            };
            Box::pin(Waiting {
                sleep: sleep_until(at),
                expired: self.drain.borrow().expired_owned(),
            })
        });
        let waiting = waiting.as_mut().project();
        if matches!(self.limit, Limit::Whole(..)) && waiting.expired.poll(cx).is_ready() {
            return Poll::Ready(
                Problem::new(Code::ShuttingDown)
                    .detail("natsway had to end before the body was complete"),
            );
        }
        waiting
            .sleep
            .poll(cx)
            .map(|()| Problem::new(Code::BodyTimeout))
    }

    /// Something came; true where it came late.
    pub(super) fn moved(&mut self) -> bool {
        match self.limit {
            Limit::Whole(_, deadline) => self.waiting.is_some() && deadline.is_half_over(),
            Limit::Silence(_) => {
                self.waiting = None;
                false
            }
        }
    }
}
