//! Servers as processes: started, watched through `/proc`, ended with the guard.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    _dir: Option<tempfile::TempDir>,
}

/// CPU time used so far, in microseconds.
pub(crate) fn cpu_us(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}

/// Resident memory in bytes.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu_us(&self) -> u64 {
        cpu_us(self.pid())
    }

    pub(crate) fn rss_bytes(&self) -> u64 {
        rss_bytes(self.pid())
    }

    /// This program in another role; it prints its address as its first line.
    pub(crate) fn role(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            address: line.trim().to_owned(),
            _dir: None,
        }
    }

    pub(crate) fn nats() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = dir.path().join("ports");
        std::fs::create_dir(&ports).unwrap();
        let mut command = Command::new(nats_server());
        command.args(["-a", "127.0.0.1", "-p", "-1", "-js"]);
        command
            .arg("-sd")
            .arg(dir.path().join("js"))
            .arg("--ports_file_dir")
            .arg(&ports);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = wait_for(|| {
            std::fs::read_dir(&ports)
                .unwrap()
                .next()
                .map(|entry| entry.unwrap().path())
        });
        let text = wait_for(|| {
            std::fs::read_to_string(&file)
                .ok()
                .filter(|text| text.ends_with('}'))
        });
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address = json["nats"][0].as_str().unwrap().to_owned();
        Self {
            child,
            address,
            _dir: Some(dir),
        }
    }

    pub(crate) fn natsway(nats: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("natsway.yaml");
        let yaml = format!(
            "listen: {{ data: [\"127.0.0.1:0\"], admin: \"127.0.0.1:0\" }}\nnats: {{ servers: [\"{nats}\"] }}\n{more}"
        );
        std::fs::write(&config, yaml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsway"));
        let mut child = command
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = None;
        let mut connected = 0;
        while address.is_none() || connected < 3 {
            let line: serde_json::Value =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            match line["msg"].as_str().unwrap_or_default() {
                "listening for requests" => {
                    address = line["address"].as_str().map(ToOwned::to_owned)
                }
                "connected to NATS" => connected += 1,
                _ => {}
            }
        }
        // Its log must not fill the pipe; the thread ends with the process.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address: address.unwrap(),
            _dir: Some(dir),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nats_server() -> PathBuf {
    std::env::var_os("NATS_SERVER_BIN").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from)
}

fn wait_for<T>(mut find: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = find() {
            return found;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing else runs while a server starts"
        )]
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("a server did not start");
}
