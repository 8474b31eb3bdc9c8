//! The binary: hands the command line and the environment to the library and ends with its code.

use std::{env, process::ExitCode};

/// A publish allocates some twenty times; glibc took a quarter of natsway's own time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What is not text cannot be meant for natsway.
    let environment = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    natsway::cli::run(env::args_os(), environment.collect())
}
