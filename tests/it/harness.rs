//! What every test stands on: a real nats-server, the real binary, clients that check hygiene.
//!
//! Nothing here mocks NATS or natsway. A helper that waits has a bound and says what it waited for.
#![allow(
    dead_code,
    unused_imports,
    reason = "a shared toolbox: the tests of one day do not use all of it"
)]

pub(crate) mod bridge;
pub(crate) mod calm;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod eventually;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod nats;
pub(crate) mod otlp;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod python;
pub(crate) mod raw;
pub(crate) mod raw_http;
pub(crate) mod responder;
pub(crate) mod sse;
pub(crate) mod watchdog;
pub(crate) mod ws;

mod selftest;

pub(crate) use bridge::Bridge;
pub(crate) use calm::Calm;
pub(crate) use client::{Answer, Client};
pub(crate) use eventually::{SOON, eventually, eventually_some};
pub(crate) use nats::{Nats, arrived, round_trip};
pub(crate) use python::Python;
pub(crate) use responder::{Responder, answer_all, respond};

use std::time::Duration;

/// `short`, or `long` when `make soak` asks for endurance (`NATSWAY_SOAK=1`).
pub(crate) fn soak<T>(short: T, long: T) -> T {
    if std::env::var_os("NATSWAY_SOAK").is_some_and(|value| value == "1") {
        long
    } else {
        short
    }
}

/// Fails with `what` instead of hanging for ever.
pub(crate) async fn within<F: Future>(bound: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(bound, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {bound:?}"),
    }
}
