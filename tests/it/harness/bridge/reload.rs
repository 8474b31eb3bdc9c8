//! Giving a running natsway another configuration.

use crate::harness::Bridge;
use crate::harness::eventually::{SOON, eventually};

const RELOADS: &str = "natsway_config_reloads_total";

impl Bridge {
    /// Replaces the configuration file and returns when it is in force.
    pub(crate) async fn reload(&self, yaml: &str) {
        std::fs::write(self.config_file(), yaml).expect("the directory is ours");
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

    /// How many ended so: `ok` or `rejected`.
    pub(crate) async fn reloads(&self, result: &str) -> f64 {
        self.metric(RELOADS, &[("result", result)]).await
    }
}
