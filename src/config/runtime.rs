//! `runtime`: threads.

use std::{fmt, num::NonZeroUsize, str::FromStr, thread::available_parallelism};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::written;

/// Threads. A change needs a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Worker threads; `auto` is as many as the process may use cores: the container's CPU limit, rounded down, because threads beyond it only get throttled; without a limit the node's cores, so say a number there.
    pub workers: Workers,
}

/// How many worker threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// As many as the process may use cores.
    #[default]
    Auto,
    /// So many.
    Count(NonZeroUsize),
}

impl Workers {
    /// How many that are. The CPU limit of a container is what the operating system says is available.
    #[must_use]
    pub fn count(self) -> NonZeroUsize {
        match self {
            Self::Auto => available_parallelism().unwrap_or(NonZeroUsize::MIN),
            Self::Count(count) => count,
        }
    }
}

const WORKERS_MAX: usize = 1024;

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text
            .parse()
            .ok()
            .filter(|count: &NonZeroUsize| count.get() <= WORKERS_MAX);
        count
            .map(Self::Count)
            .ok_or_else(|| format!("`{text}` is neither auto nor a number from 1 to {WORKERS_MAX}"))
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

written!(Workers, "Workers", "auto or a number of threads", ["auto"]);
