use std::future::{pending, poll_fn};

use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::time::timeout;

use super::*;
use crate::lifecycle::Lifecycle;
use crate::server::pace::Timers;
use crate::telemetry::metrics::Metrics;
use crate::wake::within;

const IDLE: Duration = Duration::from_secs(75);

/// What a connection's clock is made from.
struct House {
    pace: Pace,
    drain: Drain,
    rejections: Rejections,
}

impl House {
    fn new() -> Self {
        let timers = Timers {
            header_timeout: Duration::from_secs(10),
            idle_timeout: IDLE,
            keep_alive: Duration::from_secs(15),
        };
        let drain = Lifecycle::new().drain();
        let listeners = Metrics::new();
        Self {
            pace: Pace::new(timers, drain.clone()),
            rejections: listeners.rejections("test"),
            drain,
        }
    }

    fn clock(&self) -> Clock<'_> {
        Clock::new(&self.pace, &self.drain, &self.rejections)
    }
}

/// Polls as the connection's `drive` does, until what is polled is ready or the clock wants the connection to end.
async fn driven<T>(
    mut clock: Pin<&mut Clock<'_>>,
    mut polled: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = clock.as_mut().round(cx, &mut polled) {
                return Poll::Ready(Some(done));
            }
            match ready!(clock.as_mut().poll_verdict(cx)) {
                Verdict::Again => {}
                Verdict::Finish | Verdict::Close => return Poll::Ready(None),
            }
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_met_however_much_its_turn_has_done_before() {
    for spends_all in [false, true] {
        // As a task of its own: only such a one has a budget.
        let task = tokio::spawn(async move {
            let house = House::new();
            house.pace.begin();
            let mut clock = pin!(house.clock());
            let start = Instant::now();
            let mut wait = pin!(within(start + Duration::from_secs(5), pending::<()>()));
            let mut is_first = true;
            let met = driven(clock.as_mut(), |cx| {
                while is_first && spends_all && has_budget_remaining() {
                    let _one_less = pin!(consume_budget()).poll(cx);
                }
                is_first = false;
                wait.as_mut().poll(cx)
            });
            assert_eq!(timeout(Duration::from_secs(60), met).await, Ok(Some(None)));
            start.elapsed()
        });
        assert_eq!(task.await.unwrap(), Duration::from_secs(5), "{spends_all}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_was_met_before_does_not_end_an_idle_connection() {
    let house = House::new();
    let mut clock = pin!(house.clock());
    let start = Instant::now();
    house.pace.begin();
    let mut wait = Box::pin(within(
        start + Duration::from_secs(5),
        std::future::ready(7),
    ));
    let answered = driven(clock.as_mut(), |cx| wait.as_mut().poll(cx)).await;
    assert_eq!(answered, Some(Some(7)));
    house.pace.end();
    assert_eq!(driven(clock.as_mut(), |_| Poll::<()>::Pending).await, None);
    assert_eq!(start.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_over_when_its_deadline_came_is_polled_when_it_can_be() {
    let house = House::new();
    house.pace.begin();
    let mut clock = pin!(house.clock());
    let start = Instant::now();
    let mut wait = pin!(within(start + Duration::from_secs(5), pending::<()>()));
    let mut blocked = pin!(sleep_until(start + Duration::from_secs(9)));
    let mut polls = 0;
    let met = driven(clock.as_mut(), |cx| {
        polls += 1;
        // A write that goes on only then; nothing else is polled meanwhile.
        if polls > 1 {
            ready!(blocked.as_mut().poll(cx));
        }
        wait.as_mut().poll(cx)
    });
    assert_eq!(met.await, Some(None));
    assert_eq!(start.elapsed(), Duration::from_secs(9));
    assert!(polls < 10, "{polls}");
}
