//! `make bench`: natsway against the limits it stands on, in one run on one machine.
//!
//! Every server is a process of its own, so that its CPU can be read from `/proc`; the load comes
//! from this process, which is the same for all, so ratios are fair where rates are not portable.
//! Rounds are interleaved, and medians are shown.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for developers"
)]

mod cases;
mod http_load;
mod nats_load;
mod plot;
mod process;
mod report;
mod servers;
mod traces;

use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.first().map(String::as_str) {
        Some("serve-bare") => servers::bare(),
        Some("serve-echo") => servers::echo(&args[1]),
        Some("serve-naive") => servers::naive(&args[1]),
        Some("serve-collector") => servers::collector(&args[1]),
        Some("load") => load(&args[1..]),
        filter => measure(filter),
    }
}

/// `load ADDRESS PATH CONNECTIONS SECONDS`: posts to one path, for a profiler to watch the server.
fn load(args: &[String]) {
    let [address, path, connections, seconds] = args else {
        panic!("load ADDRESS PATH CONNECTIONS SECONDS");
    };
    let request = http_load::post(address, path, "", &[b'x'; 128]);
    let connections = connections.parse().unwrap();
    let span = Duration::from_secs(seconds.parse().unwrap());
    let load = http_load::closed_loop(address, &request, connections, span);
    let found = runtime().block_on(load);
    let (p50, p99) = (found.percentile_us(50), found.percentile_us(99));
    let (rate, failed) = (found.rate_hz(), found.failed);
    println!("{rate:.0} a second, p50 {p50} us, p99 {p99} us, {failed} failed");
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn measure(filter: Option<&str>) {
    let rounds = number("NATSWAY_BENCH_ROUNDS", 3);
    let seconds = Duration::from_millis(number("NATSWAY_BENCH_MS", 2000));
    let report = runtime().block_on(cases::run(filter, rounds, seconds));
    println!("{report}");
    report.write_json();
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}
