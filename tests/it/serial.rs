//! Tests that need the machine for themselves; `make test` runs them one after another.

mod batch_election;
mod clusters;
mod collector;
mod crowd;
mod elections;
mod huge_batch;
mod load;
mod make_run;
mod memory;
mod overload;
mod poison;
mod recovery;
mod reloads;
mod replay;
mod slow_reader;
mod slow_websocket;
mod workers;
