//! Notices that the configuration file has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Polled, because that also works for a ConfigMap, which is a symbolic link to another directory each
/// time, and for network file systems; one `stat` is nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file that is looked at from time to time.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: Option<PathBuf>,
    seen: Option<Identity>,
}

/// What changes when a file is written or replaced.
type Identity = (u64, u64, u64, i64, i64);

impl FileWatch {
    /// Watches from now on.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let mut watch = Self { path, seen: None };
        watch.seen = watch.look();
        watch
    }

    /// Resolves when the file is another one, and has been so for one look: a file that is just being
    /// written is not read in the middle. Never resolves without a file.
    pub(super) async fn changed(&mut self) {
        if self.path.is_none() {
            return std::future::pending().await;
        }
        let mut before = self.seen;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = self.look();
            if now.is_some() && now != self.seen && now == before {
                self.seen = now;
                return;
            }
            before = now;
        }
    }

    fn look(&self) -> Option<Identity> {
        let found = fs::metadata(self.path.as_ref()?).ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_written_and_a_replaced_file_are_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("natsway.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = FileWatch::new(Some(path.clone()));
        let quiet = Duration::from_secs(30);
        assert!(timeout(quiet, watch.changed()).await.is_err());
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"b")
            .unwrap();
        assert!(timeout(quiet, watch.changed()).await.is_ok());
        assert!(timeout(quiet, watch.changed()).await.is_err());
        let other = dir.path().join("new");
        fs::write(&other, "ab").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(timeout(quiet, watch.changed()).await.is_ok());
        fs::remove_file(&path).unwrap();
        assert!(timeout(quiet, watch.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_nothing_changes() {
        let mut watch = FileWatch::new(None);
        assert!(
            timeout(Duration::from_secs(30), watch.changed())
                .await
                .is_err()
        );
    }
}
