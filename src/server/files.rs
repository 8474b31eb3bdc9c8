//! The process's limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::workers::FILES_EACH;

/// What natsway needs beside client connections and workers: listeners, links to NATS, files.
const OTHERS: u64 = 64;

/// Raises the soft limit to the hard one and says so when that is less than the connection cap needs.
/// The default soft limit of 1,024 is a relic of `select`, and every connection is a file.
pub fn raise_open_files(connections_max: usize, workers: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    let needed = connections_max.saturating_add(workers.saturating_mul(FILES_EACH));
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    let needed = needed.saturating_add(OTHERS);
    if let Some(have) = getrlimit(Resource::Nofile).current
        && have < needed
    {
        tracing::warn!(
            open_files = have,
            needed,
            "fewer open files are allowed than `http.connections_max` needs; connections beyond them wait"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_open_files(1, 1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
