//! The harness is a program, too: what other tests take for granted is shown here.

mod bridge;
mod faults;
mod history;
mod nats;
mod parsers;
mod python;
