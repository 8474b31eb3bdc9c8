//! The clock of one connection: how long it may stay silent, and when.
//!
//! hyper's own header timer starts only after the protocol is known, so a silent connection and one
//! that dribbles the HTTP/2 preface live for ever, and it also counts the idle time between two
//! requests. So the state is kept here, fed by what [`super::io`] reads and writes and by the requests
//! that come and go, and [`super::connection`] watches the deadline that follows from it:
//!
//! - *head*: bytes of a head were read, or none at all yet → `header_timeout` after the first;
//! - *busy*: a request is in flight → none of these; bodies and handlers have clocks of their own;
//! - *idle*: between requests → `idle_timeout`;
//! - and in each of them, a write that moved nothing for `write_stall` ends the connection.
//!
//! HTTP/2 has no head in this sense once its preface is read: frames that keep a connection alive look
//! like the first byte of a request. Such a connection is *idle* until a request came.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::lifecycle::Drain;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CLOSING: Duration = Duration::from_secs(1);
const NEVER: u64 = u64::MAX;

/// The limits in time of every connection.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// For a request head, and for the first one after connecting.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// How often a connection is asked whether it is still there, where the protocol has a way to.
    pub keep_alive: Duration,
}

impl Timers {
    /// For a write without progress: whoever reads nothing for so long has vanished.
    pub(super) fn write_stall(&self) -> Duration {
        self.keep_alive * 2
    }
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// The state of one connection. Everything is relaxed and lock-free: it is written on the hot path and
/// read when a timer fires.
#[derive(Debug)]
pub(super) struct Pace {
    timers: Timers,
    drain: Drain,
    start: Instant,
    /// When the present silence ends the connection, in milliseconds after `start`.
    quiet_until: AtomicU64,
    stalled_until: AtomicU64,
    /// When a head was read, if it is not the first and came at once: in nanoseconds after `start`.
    head_read: AtomicU64,
    in_flight: AtomicU32,
    preface_read: AtomicU32,
    http2: AtomicBool,
    between_requests: AtomicBool,
    refused: AtomicBool,
    /// Bytes that were read over HTTP/1.1, and over what it was upgraded to.
    received: AtomicU64,
    closing: AtomicBool,
}

impl Pace {
    pub(super) fn new(timers: Timers, drain: Drain) -> Self {
        Self {
            timers,
            drain,
            start: Instant::now(),
            quiet_until: AtomicU64::new(millis(timers.header_timeout)),
            stalled_until: AtomicU64::new(NEVER),
            head_read: AtomicU64::new(NEVER),
            in_flight: AtomicU32::new(0),
            preface_read: AtomicU32::new(0),
            http2: AtomicBool::new(false),
            between_requests: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            received: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        }
    }

    /// Whether clients should look for another replica.
    pub(super) fn is_leaving(&self) -> bool {
        self.drain.is_leaving()
    }

    /// Bytes came in.
    pub(super) fn read(&self, bytes: &[u8]) {
        if bytes.is_empty() || self.http2.load(Ordering::Relaxed) {
            return;
        }
        // Written from here alone.
        let received = self.received.load(Ordering::Relaxed) + bytes.len() as u64;
        self.received.store(received, Ordering::Relaxed);
        self.look_for_preface(bytes);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return;
        }
        if self.between_requests.swap(false, Ordering::Relaxed) {
            let now = self.start.elapsed();
            self.quiet_after(now, self.timers.header_timeout);
            self.head_read.store(nanos(now), Ordering::Relaxed);
        } else {
            self.head_read.store(NEVER, Ordering::Relaxed);
        }
    }

    /// Bytes that came in so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn look_for_preface(&self, bytes: &[u8]) {
        let seen = self.preface_read.load(Ordering::Relaxed) as usize;
        if seen >= PREFACE.len() {
            return;
        }
        let rest = &PREFACE[seen..];
        let length = rest.len().min(bytes.len());
        let matched = rest[..length] == bytes[..length];
        let seen = if matched { seen + length } else { usize::MAX };
        let stored = u32::try_from(seen).unwrap_or(u32::MAX);
        self.preface_read.store(stored, Ordering::Relaxed);
        if seen == PREFACE.len() {
            self.http2.store(true, Ordering::Relaxed);
            self.quiet_for(self.timers.idle_timeout);
        }
    }

    /// A write could not go on.
    pub(super) fn stalled(&self) {
        if self.stalled_until.load(Ordering::Relaxed) == NEVER {
            let until = self.now() + millis(self.timers.write_stall());
            self.stalled_until.store(until, Ordering::Relaxed);
        }
    }

    /// A write went on.
    pub(super) fn wrote(&self) {
        if self.stalled_until.load(Ordering::Relaxed) != NEVER {
            self.stalled_until.store(NEVER, Ordering::Relaxed);
        }
    }

    /// A request's head is complete. Returns when that was, where the clock was read for it already.
    pub(super) fn begin(&self) -> Option<Instant> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.quiet_until.store(NEVER, Ordering::Relaxed);
        // Another head that was read along with this one has no time of its own.
        let read = self.head_read.swap(NEVER, Ordering::Relaxed);
        let read = (read != NEVER).then(|| Duration::from_nanos(read))?;
        self.start.checked_add(read)
    }

    /// A request's answer was taken over by the connection, or the request was dropped.
    pub(super) fn end(&self) {
        if self.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.between_requests.store(true, Ordering::Relaxed);
            self.quiet_for(self.timers.idle_timeout);
        }
    }

    /// Whether the client owes a head, or the rest of one.
    pub(super) fn waits_for_head(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        !self.is_busy() && !is(&self.between_requests) && !is(&self.http2) && !is(&self.closing)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// What the bytes read so far say of the protocol, if they say it.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        let seen = self.preface_read.load(Ordering::Relaxed) as usize;
        match seen.cmp(&PREFACE.len()) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(Protocol::Http2),
            std::cmp::Ordering::Greater => Some(Protocol::Http1),
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// An answer went out while the request's body was perhaps not read to its end.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Our side is closed; the client has a moment to close its own.
    pub(super) fn closing(&self) {
        self.between_requests.store(false, Ordering::Relaxed);
        self.closing.store(true, Ordering::Relaxed);
        self.quiet_for(CLOSING);
    }

    /// Brings the end of an idle connection forward, for the shutdown.
    pub(super) fn hurry(&self, linger: Duration) {
        if !self.is_busy() {
            let until = self.now() + millis(linger);
            self.quiet_until.fetch_min(until, Ordering::Relaxed);
        }
    }

    /// When to end the connection if nothing happens; the timer's next look if nothing limits it now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = self
            .quiet_until
            .load(Ordering::Relaxed)
            .min(self.stalled_until.load(Ordering::Relaxed));
        if until == NEVER {
            return None;
        }
        self.start.checked_add(Duration::from_millis(until))
    }

    /// Whether a write made no progress for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_until.load(Ordering::Relaxed) <= self.now()
    }

    /// How long the timer may sleep while nothing limits the connection.
    pub(super) fn recheck(&self) -> Duration {
        self.timers.idle_timeout.max(Duration::from_secs(1))
    }

    fn quiet_for(&self, limit: Duration) {
        self.quiet_after(self.start.elapsed(), limit);
    }

    fn quiet_after(&self, now: Duration, limit: Duration) {
        let until = millis(now) + millis(limit);
        self.quiet_until.store(until, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    // Rounded up, so that a limit is never cut short by the unit.
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(NEVER - 1)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Lifecycle;

    const TIMERS: Timers = Timers {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        keep_alive: Duration::from_secs(15),
    };

    fn left(pace: &Pace) -> Option<u64> {
        pace.deadline()
            .map(|at| (at - Instant::now()).as_secs_f64().round() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_has_the_header_timeout_and_dribbling_does_not_extend_it() {
        let pace = Pace::new(TIMERS, Lifecycle::new().drain());
        assert_eq!(left(&pace), Some(10));
        for byte in b"PRI * " {
            tokio::time::advance(Duration::from_secs(1)).await;
            pace.read(&[*byte]);
        }
        assert_eq!(left(&pace), Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_the_idle_timeout_and_its_next_head_the_header_timeout() {
        let pace = Pace::new(TIMERS, Lifecycle::new().drain());
        pace.read(b"GET / HTTP/1.1\r\n\r\n");
        pace.begin();
        assert_eq!(left(&pace), None);
        pace.end();
        assert_eq!(left(&pace), Some(75));
        tokio::time::advance(Duration::from_secs(60)).await;
        pace.read(b"G");
        assert_eq!(left(&pace), Some(10));
        tokio::time::advance(Duration::from_secs(5)).await;
        pace.read(b"E");
        assert_eq!(left(&pace), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_came_at_once_says_when() {
        let pace = Pace::new(TIMERS, Lifecycle::new().drain());
        pace.read(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(pace.begin(), None, "for the first one no clock is read");
        pace.end();
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.read(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        let read = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.begin(), Some(read));
        pace.end();
        assert_eq!(pace.begin(), None, "it waited behind the other");
        pace.end();
        pace.read(b"GET / HT");
        pace.read(b"TP/1.1\r\n\r\n");
        assert_eq!(pace.begin(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_idle_after_its_preface_whatever_frames_come() {
        let pace = Pace::new(TIMERS, Lifecycle::new().drain());
        pace.read(&PREFACE[..10]);
        pace.read(&PREFACE[10..]);
        assert!(pace.is_http2());
        assert_eq!(left(&pace), Some(75));
        tokio::time::advance(Duration::from_secs(5)).await;
        pace.read(b"a ping");
        assert_eq!(left(&pace), Some(70));
        assert_eq!(pace.begin(), None);
        pace.begin();
        pace.end();
        assert_eq!(left(&pace), None);
        pace.end();
        assert_eq!(left(&pace), Some(75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_progress_ends_even_a_busy_connection() {
        let pace = Pace::new(TIMERS, Lifecycle::new().drain());
        pace.begin();
        pace.stalled();
        tokio::time::advance(Duration::from_secs(20)).await;
        pace.stalled();
        assert_eq!(left(&pace), Some(10));
        pace.wrote();
        assert_eq!(left(&pace), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_hurries_only_the_idle() {
        let pace = Pace::new(TIMERS, Lifecycle::new().drain());
        pace.begin();
        pace.hurry(Duration::from_secs(1));
        assert_eq!(left(&pace), None);
        pace.end();
        pace.hurry(Duration::from_secs(1));
        assert_eq!(left(&pace), Some(1));
    }
}
