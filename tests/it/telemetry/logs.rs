//! The access log.

use serde_json::{Value, json};

use crate::harness::{Bridge, Nats, SOON, eventually_some, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

async fn line_of(bridge: &Bridge, id: &str) -> Value {
    eventually_some(SOON, "the request has its line", async || {
        let mut lines = bridge.log().into_iter();
        lines.find(|line| line["target"] == "natsway::access" && line["request_id"] == id)
    })
    .await
}

#[tokio::test]
async fn a_line_joins_the_request_with_its_trace() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "telemetry: { log: { access: all } }").await;
    bridge
        .post("/v1/publish/$SYS.a")
        .header("x-request-id", "r-1")
        .header("traceparent", &format!("00-{TRACE}-{SPAN}-00"))
        .send()
        .await
        .expect_problem(403, "subject-not-allowed");
    let line = line_of(&bridge, "r-1").await;
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], SPAN);
    assert_eq!(line["route"], "publish");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/v1/publish/{subject}");
    assert_eq!(line["status"], 403);
    assert_eq!(line["problem"], "subject-not-allowed");
    assert_eq!(line["source"], "client");
    assert!(line["duration_ms"].as_f64().unwrap() >= 0.0);
}

#[tokio::test]
async fn without_a_whole_traceparent_a_line_names_no_trace() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "telemetry: { log: { access: all } }").await;
    for (id, parent) in [("r-1", None), ("r-2", Some("00-damaged"))] {
        let mut request = bridge.post("/v1/publish/a").header("x-request-id", id);
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        request.send().await.expect(204);
        let line = line_of(&bridge, id).await;
        assert_eq!(line["status"], 204);
        assert!(
            line.get("trace_id").is_none() && line.get("span_id").is_none(),
            "{line}"
        );
        assert!(line.get("problem").is_none(), "{line}");
    }
}

#[tokio::test]
async fn the_access_log_has_the_lines_that_were_asked_for() {
    let nats = Nats::start().await;
    for (access, refused, done) in [("off", 0, 0), ("errors", 1, 0), ("all", 1, 1)] {
        let yaml = format!("telemetry: {{ log: {{ access: {access} }} }}");
        let bridge = Bridge::start(&nats, &yaml).await;
        bridge.post("/v1/publish/a").send().await.expect(204);
        bridge
            .post("/v1/publish/$SYS.a")
            .send()
            .await
            .expect_problem(403, "subject-not-allowed");
        bridge.sigterm();
        bridge.wait_exit(SOON).await;
        let of_status = |status: u16| {
            let log = bridge.log();
            let lines = log
                .iter()
                .filter(|line| line["target"] == "natsway::access");
            lines.filter(|line| line["status"] == status).count()
        };
        assert_eq!(
            (of_status(403), of_status(204)),
            (refused, done),
            "{access}"
        );
    }
}

#[tokio::test]
async fn a_reload_changes_the_level_and_says_that_the_format_needs_a_restart() {
    let nats = Nats::start().await;
    let log = |settings: &str| format!("telemetry: {{ log: {{ {settings} }} }}\n");
    let yaml = log("level: 'natsway=warn,natsway::app=info', format: json");
    let bridge = Bridge::start(&nats, &yaml).await;
    bridge.post("/v1/publish/a").send().await.expect(204);
    let reload = async |settings: &str| {
        std::fs::write(bridge.config_file(), log(settings)).unwrap();
        bridge.signal(libc::SIGHUP);
    };
    reload("level: info, format: json, access: all").await;
    bridge.logs("configuration reloaded").await;
    bridge.post("/v1/publish/b").send().await.expect(204);
    bridge.logs("natsway::access").await;
    reload("level: error, format: text, access: all").await;
    bridge.logs("telemetry.log.format").await;
    let reloads = [("result", "ok")];
    bridge
        .metric_becomes("natsway_config_reloads_total", &reloads, |count| {
            count >= 2.0
        })
        .await;
    bridge.post("/v1/publish/c").send().await.expect(204);
    bridge.sigterm();
    bridge.wait_exit(SOON).await;
    let log = bridge.log();
    let access = log
        .iter()
        .filter(|line| line["target"] == "natsway::access");
    assert_eq!(access.count(), 1, "{log:?}");
}

/// A terminal, and what was written to it.
mod terminal {
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// Runs a command on a terminal to its end.
    pub(super) fn said(mut command: Command) -> String {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(theirs);
        let mut child = command.spawn().unwrap();
        // Or reading would go on after the child has ended.
        drop(command);
        let mut text = Vec::new();
        let mut ours = File::from(ours);
        let mut piece = [0; 4096];
        // Linux says EIO when the last who held the terminal is gone.
        while let Ok(count @ 1..) = ours.read(&mut piece) {
            text.extend_from_slice(&piece[..count]);
            if String::from_utf8_lossy(&text).contains("listening for probes") {
                let pid = rustix::process::Pid::from_child(&child);
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        child.wait().unwrap();
        String::from_utf8(text).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_lines_are_text_in_colours_unless_somebody_wants_none() {
    for (wanted, is_colourful) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_natsway"));
        command
            .env_clear()
            .env("NATSWAY_LISTEN__DATA", "127.0.0.1:0")
            .env("NATSWAY_LISTEN__ADMIN", "127.0.0.1:0")
            .env("NATSWAY_NATS__SERVERS", "nats://127.0.0.1:1")
            .envs(wanted.iter().copied());
        let said = tokio::task::spawn_blocking(move || terminal::said(command));
        let text = within(SOON, "natsway ends", said).await.unwrap();
        assert!(text.contains("listening for requests"), "{text}");
        assert!(text.contains("INFO") && !text.contains("\"msg\""), "{text}");
        assert_eq!(text.contains('\u{1b}'), is_colourful, "{text:?}");
    }
}

#[tokio::test]
async fn a_problem_in_a_frame_has_a_line_of_its_own() {
    let nats = Nats::start().await;
    for (access, lines) in [("off", 0), ("errors", 1), ("all", 1)] {
        let yaml = format!("telemetry: {{ log: {{ access: {access} }} }}");
        let bridge = Bridge::start(&nats, &yaml).await;
        let mut ws = bridge.ws("/v1/ws").await;
        let id = ws.response.headers()["x-request-id"].clone();
        let publish = json!({"op": "publish", "id": 1, "subject": "secret..b", "data": "x"});
        ws.send(&publish).await;
        assert_eq!(ws.next().await["problem"]["code"], "invalid-subject");
        bridge.sigterm();
        bridge.wait_exit(SOON).await;
        let log = bridge.log();
        let of_frame = |line: &&Value| line["problem"] == "invalid-subject";
        let found: Vec<_> = log.iter().filter(of_frame).collect();
        assert_eq!(found.len(), lines, "{access}");
        for line in found {
            assert_eq!(line["target"], "natsway::access");
            assert_eq!(line["request_id"], id.to_str().unwrap());
            assert_eq!(
                (&line["route"], &line["path"]),
                (&json!("ws"), &json!("/v1/ws"))
            );
            assert_eq!(
                (&line["status"], &line["client"]),
                (&json!(400), &json!("127.0.0.1"))
            );
            assert!(!line.to_string().contains("secret"), "{line}");
        }
    }
}
