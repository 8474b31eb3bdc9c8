//! Giving a running natsway another configuration.

use crate::harness::Bridge;
use crate::harness::eventually::{SOON, eventually};

const RELOADS: &str = "natsway_config_reloads_total";

impl Bridge {
    /// Replaces the configuration file and returns when it is in force.
    pub(crate) async fn reload(&self, yaml: &str) {
        self.configure(yaml);
        // The first one counted may have begun before, as the file is watched, too.
        for _ in 0..2 {
            let before = self.reloads("ok").await;
            self.signal(libc::SIGHUP);
            eventually(SOON, "the configuration is reloaded", async || {
                self.reloads("ok").await > before
            })
            .await;
        }
    }

    /// Replaces the configuration file at once, as whoever cares does it: nobody reads half of it.
    pub(crate) fn configure(&self, yaml: &str) {
        let new = self.config_file().with_extension("new");
        std::fs::write(&new, yaml).expect("the directory is ours");
        std::fs::rename(new, self.config_file()).expect("the directory is ours");
    }

    /// How many ended so: `ok` or `rejected`.
    pub(crate) async fn reloads(&self, result: &str) -> f64 {
        self.metric(RELOADS, &[("result", result)]).await
    }
}
