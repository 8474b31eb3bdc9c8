//! Which nats-server the tests run: `NATS_SERVER_BIN`, then PATH, then what `make` has installed.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/nats-server");

/// The executable; a suite without one fails, because nothing here can be shown without NATS.
pub(crate) fn path() -> &'static Path {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref().expect(
        "nats-server is missing: run `make test`, which installs it, or set NATS_SERVER_BIN",
    )
}

fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NATS_SERVER_BIN") {
        return Some(PathBuf::from(named));
    }
    let on_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|folder| folder.join("nats-server"))
            .find(|file| file.is_file())
    });
    on_path.or_else(|| Some(PathBuf::from(INSTALLED)).filter(|file| file.is_file()))
}
