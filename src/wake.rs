//! One timer for all that a task waits for.
//!
//! A timer of its own would cost a request two turns of a lock that all workers share, and nearly every
//! request is over long before it fires. The task of a connection has a timer anyway, so it collects the
//! deadlines of what it polls ([`Deadlines`]) and polls again when the nearest has come; what is polled
//! there ([`within`]) needs no timer. Everywhere else, such as in a task of HTTP/2, it makes one.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// The round that is being polled on this thread.
    static ROUND: Cell<Option<Round>> = const { Cell::new(None) };
}

/// One poll of a task that collects deadlines.
#[derive(Clone, Copy)]
struct Round {
    /// Whose it is. What is polled by way of another waker, as a set of futures does it, may be passed over
    /// when the task is polled again.
    task: Task,
    /// The time, where a deadline has come.
    now: Option<Instant>,
    nearest: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Task(usize, usize);

impl Task {
    fn of(waker: &Waker) -> Self {
        let table: *const _ = waker.vtable();
        Self(waker.data().addr(), table.addr())
    }
}

/// The deadlines of what one task polls.
#[derive(Debug, Default)]
pub struct Deadlines {
    nearest: Option<Instant>,
    now: Option<Instant>,
}

impl Deadlines {
    /// When to [look](Self::look) and poll again, where something waits.
    #[must_use]
    pub const fn nearest(&self) -> Option<Instant> {
        self.nearest
    }

    /// Whether the nearest has come: then the next round has to be polled at once.
    pub fn look(&mut self, now: Instant) -> bool {
        let has_come = self.nearest.is_some_and(|nearest| nearest <= now);
        if has_come {
            self.nearest = None;
            self.now = Some(now);
        }
        has_come
    }

    /// Polls one round. What is passed over in it, such as a body while its connection cannot write, collects
    /// its deadline when it is polled next, and is polled again at once if that has come meanwhile.
    pub fn round<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let outer = Outer(ROUND.take());
        ROUND.set(Some(Round {
            task: Task::of(cx.waker()),
            now: self.now.take(),
            nearest: self.nearest,
        }));
        let polled = poll(cx);
        self.nearest = ROUND.take().and_then(|round| round.nearest);
        drop(outer);
        polled
    }
}

/// What was polled around this round, put back even by a panic.
struct Outer(Option<Round>);

impl Drop for Outer {
    fn drop(&mut self) {
        ROUND.set(self.0);
    }
}

/// Whether the deadline has come, as far as the task knows that polls this. If not, it is collected: the task
/// polls again by then. None where no task does that.
pub(crate) fn come_or_collected(deadline: Instant, waker: &Waker) -> Option<bool> {
    let mut round = ROUND.get()?;
    if round.task != Task::of(waker) {
        return None;
    }
    if round.now.is_some_and(|now| deadline <= now) {
        return Some(true);
    }
    if round.nearest.is_none_or(|nearest| deadline < nearest) {
        round.nearest = Some(deadline);
        ROUND.set(Some(round));
    }
    Some(false)
}

/// Waits for a future until the deadline; nothing if that comes first.
pub async fn within<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut own: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        match come_or_collected(deadline, cx.waker()) {
            Some(true) => Poll::Ready(None),
            Some(false) => Poll::Pending,
            None => {
                let timer = own.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                timer.as_mut().poll(cx).map(|()| None)
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use futures_util::task::noop_waker;
    use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

    use super::*;

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn alone_it_has_a_timer_of_its_own() {
        let start = Instant::now();
        assert_eq!(within(later(5), pending::<()>()).await, None);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert_eq!(within(later(5), async { 7 }).await, Some(7));
    }

    #[test]
    fn a_task_that_collects_is_told_the_nearest_deadline_and_no_timer_is_made() {
        // There is no runtime here that could have one.
        let mut deadlines = Deadlines::default();
        let (near, far) = (later(5), later(9));
        let mut waits = [
            within(far, pending::<()>()).boxed(),
            within(near, pending::<()>()).boxed(),
        ];
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut round = |deadlines: &mut Deadlines| {
            deadlines.round(&mut cx, |cx| {
                waits.each_mut().map(|wait| wait.poll_unpin(cx).is_ready())
            })
        };
        assert_eq!(round(&mut deadlines), [false, false]);
        assert_eq!(deadlines.nearest(), Some(near));
        assert!(!deadlines.look(near - Duration::from_millis(1)));
        assert!(deadlines.look(near));
        assert_eq!(round(&mut deadlines), [false, true]);
        assert_eq!(deadlines.nearest(), Some(far));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_polled_by_another_waker_has_a_timer_of_its_own() {
        let mut deadlines = Deadlines::default();
        let mut set = FuturesUnordered::from_iter([within(later(5), pending::<()>())]);
        let next = poll_fn(|cx| deadlines.round(cx, |cx| set.poll_next_unpin(cx)));
        assert_eq!(next.await, Some(None));
        assert_eq!(deadlines.nearest(), None);
    }

    #[test]
    fn a_round_ends_with_a_panic() {
        let mut deadlines = Deadlines::default();
        let waker = noop_waker();
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            deadlines.round(&mut Context::from_waker(&waker), |_| {
                panic!("as a handler may")
            })
        }));
        assert!(panics.is_err());
        assert_eq!(come_or_collected(later(5), &waker), None);
    }
}
