//! Which pull comes next.
//!
//! A *sweep* takes what is there and ends as soon as nothing more is; it soon tells whether there is
//! anything. Where there is nothing, a *wait* asks for one single message for up to two
//! seconds, again and again. So a client that vanishes leaves at most one message to be given back,
//! no pull outlives its fetch for long, and one that got lost in an election is soon asked again:
//! what idle heartbeats are for with long pulls.

use std::time::Duration;

use crate::api::jetstream::consumers::ConsumerInfo;
use crate::api::jetstream::pull::{End, Order};

/// How long after the last message an answer waits for another.
pub(super) const LINGER: Duration = Duration::from_millis(50);
/// How long the first sweep looks for something.
const FIRST_MAX: Duration = Duration::from_millis(250);
/// How long a single pull waits at the server.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The server's clock has no finer grain that matters.
const EXPIRES_MIN: Duration = Duration::from_millis(5);
/// The bytes of the first sweep, for most find little, and of the next. What may come is drawn from the
/// budget before it is asked for.
const SWEEP_BYTES_FIRST: u64 = 64 << 10;
const SWEEP_BYTES: u64 = 1 << 20;
/// What a wait draws, for there may be many. A message that is larger is told of, and then asked for.
const WAIT_BYTES: u64 = 16 << 10;

/// The consumer's own limits of a single pull.
#[derive(Debug)]
struct Limits {
    batch: usize,
    bytes: u64,
    expires: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Sweep,
    Wait,
    /// One message that is larger than a sweep.
    Large,
    /// One message without regard to its size.
    Huge,
    End,
}

/// What is left of a fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) messages: usize,
    pub(super) bytes: u64,
    pub(super) time: Duration,
    /// There is no message so far.
    pub(super) is_all: bool,
}

/// Where a fetch stands.
#[derive(Debug)]
pub(super) struct Steps {
    limits: Limits,
    /// Somebody has set a limit of bytes, and no message is to pass it.
    is_limited: bool,
    step: Step,
    sweep_bytes: u64,
    /// Messages of the pull under way.
    brought: usize,
}

impl Steps {
    /// At the first sweep.
    pub(super) fn new(info: &ConsumerInfo, max_bytes: Option<u64>) -> Self {
        let limits = Limits {
            batch: info.limit("max_batch").map_or(usize::MAX, |batch| {
                usize::try_from(batch).unwrap_or(usize::MAX)
            }),
            bytes: info.limit("max_bytes").unwrap_or(u64::MAX),
            expires: info.expires_max().unwrap_or(WAIT_MAX),
        };
        Self {
            is_limited: max_bytes.is_some() || limits.bytes < u64::MAX,
            limits,
            step: Step::Sweep,
            sweep_bytes: SWEEP_BYTES_FIRST,
            brought: 0,
        }
    }

    /// The pull for what is left; nothing where there is nothing left, or no time.
    pub(super) fn order(&self, left: Left) -> Option<Order> {
        // What is there already is worth a look even when there is no time to wait.
        let is_first = left.is_all && self.step != Step::Wait;
        let is_late = left.time.is_zero() && !is_first;
        if left.messages == 0 || left.bytes == 0 || is_late || self.step == Step::End {
            return None;
        }
        let expires = match self.step {
            // It comes at once; a busy server gets time to find it.
            _ if is_first => left.time.clamp(LINGER, FIRST_MAX),
            Step::Wait if left.is_all => left.time.min(WAIT_MAX),
            _ => left.time.min(LINGER),
        };
        let batch = match self.step {
            Step::Sweep => left.messages,
            _ => 1,
        };
        let bytes = match self.step {
            Step::Huge => None,
            Step::Large => Some(left.bytes),
            Step::Wait => Some(left.bytes.min(WAIT_BYTES)),
            Step::Sweep | Step::End => Some(left.bytes.min(self.sweep_bytes)),
        };
        Some(Order {
            batch: batch.min(self.limits.batch),
            max_bytes: bytes.map(|bytes| bytes.min(self.limits.bytes)),
            no_wait: self.step == Step::Sweep,
            expires: expires.max(EXPIRES_MIN).min(self.limits.expires),
        })
    }

    /// What an order may bring, where NATS takes no larger payloads.
    pub(super) fn bytes_of(&self, order: &Order, max_payload: u64) -> u64 {
        let largest = max_payload + SWEEP_BYTES_FIRST;
        let bytes = order.max_bytes.unwrap_or(largest);
        match self.step {
            Step::Large | Step::Huge => bytes.min(largest),
            Step::Sweep | Step::Wait | Step::End => bytes,
        }
    }

    /// There was no memory for an order.
    pub(super) const fn asked_for_too_much(&mut self) {
        self.sweep_bytes = SWEEP_BYTES_FIRST;
    }

    /// A pull begins.
    pub(super) const fn begun(&mut self) {
        self.brought = 0;
    }

    /// It has brought a message.
    pub(super) fn brought(&mut self) {
        self.brought += 1;
        self.step = match self.step {
            Step::Huge => Step::End,
            _ => Step::Sweep,
        };
    }

    /// It has ended; `is_empty` where there is no message so far.
    pub(super) fn ended(&mut self, end: End, is_empty: bool) {
        self.step = match end {
            End::Done if is_empty => Step::Wait,
            End::Done => Step::Sweep,
            // A sweep would be sent away again as long as others wait for what little there is.
            End::Others => Step::Wait,
            End::TooLarge => self.larger(is_empty),
        };
        if end == End::TooLarge {
            self.sweep_bytes = SWEEP_BYTES;
        }
    }

    /// What to do about a message that does not fit.
    const fn larger(&self, is_empty: bool) -> Step {
        match self.step {
            // It came to the end of its bytes, which are not all there are.
            _ if self.brought > 0 => Step::Sweep,
            Step::Sweep | Step::Wait if self.sweep_bytes < SWEEP_BYTES => Step::Sweep,
            Step::Sweep | Step::Wait => Step::Large,
            Step::Large if is_empty && !self.is_limited => Step::Huge,
            Step::Large | Step::Huge | Step::End => Step::End,
        }
    }

    /// No pull follows.
    pub(super) const fn end(&mut self) {
        self.step = Step::End;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KIB: u64 = 1 << 10;

    fn steps(config: &serde_json::Value, max_bytes: Option<u64>) -> Steps {
        let info = serde_json::from_value(json!({ "config": config })).unwrap();
        Steps::new(&info, max_bytes)
    }

    fn left(messages: usize, time_ms: u64) -> Left {
        Left {
            messages,
            bytes: 8192 * KIB,
            time: Duration::from_millis(time_ms),
            is_all: messages == 10,
        }
    }

    /// An order in short: messages, bytes, whether it ends at once, and how long it waits.
    fn short(order: Option<Order>) -> Option<(usize, Option<u64>, bool, u128)> {
        let order = order?;
        let expires_ms = order.expires.as_millis();
        Some((order.batch, order.max_bytes, order.no_wait, expires_ms))
    }

    #[test]
    fn a_sweep_comes_first_and_a_wait_where_it_found_nothing() {
        let mut steps = steps(&json!({}), None);
        let sweep = |time| Some((10, Some(64 * KIB), true, time));
        assert_eq!(short(steps.order(left(10, 0))), sweep(50));
        assert_eq!(short(steps.order(left(10, 9000))), sweep(250));
        steps.ended(End::Done, true);
        let wait = |time| Some((1, Some(16 * KIB), false, time));
        assert_eq!(short(steps.order(left(10, 9000))), wait(2000));
        assert_eq!(short(steps.order(left(10, 1))), wait(5));
        assert_eq!(short(steps.order(left(10, 0))), None);
    }

    #[test]
    fn after_a_message_little_time_is_given_to_others() {
        let mut steps = steps(&json!({}), None);
        steps.ended(End::Done, true);
        steps.brought();
        let next = steps.order(left(9, 30));
        assert_eq!(short(next), Some((9, Some(64 * KIB), true, 30)));
        assert_eq!(short(steps.order(left(9, 0))), None);
        assert_eq!(short(steps.order(left(0, 30))), None);
        steps.end();
        assert_eq!(short(steps.order(left(9, 30))), None);
    }

    #[test]
    fn a_large_message_gets_larger_orders_until_it_fits() {
        let mut steps = steps(&json!({}), None);
        let next = |steps: &mut Steps| {
            steps.begun();
            steps.ended(End::TooLarge, true);
            let order = steps.order(left(10, 100))?;
            Some((order.batch, order.max_bytes))
        };
        assert_eq!(next(&mut steps), Some((10, Some(1024 * KIB))));
        assert_eq!(next(&mut steps), Some((1, Some(8192 * KIB))));
        assert_eq!(next(&mut steps), Some((1, None)));
        steps.brought();
        assert_eq!(short(steps.order(left(9, 100))), None, "one is enough");
    }

    #[test]
    fn a_limit_of_bytes_is_not_passed_for_a_large_message() {
        for (config, max_bytes) in [(json!({}), Some(1)), (json!({"max_bytes": 100}), None)] {
            let mut steps = steps(&config, max_bytes);
            for _ in 0..2 {
                steps.ended(End::TooLarge, true);
                assert!(steps.order(left(10, 100)).is_some());
            }
            steps.ended(End::TooLarge, true);
            assert!(steps.order(left(10, 100)).is_none());
        }
    }

    #[test]
    fn the_consumers_own_limits_hold() {
        let limits = json!({"max_batch": 3, "max_bytes": 100, "max_expires": 7_000_000});
        let steps = steps(&limits, None);
        let order = short(steps.order(left(10, 9000)));
        assert_eq!(order, Some((3, Some(100), true, 7)));
    }
}
