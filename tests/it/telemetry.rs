//! What operators are given: the alerts, the dashboard, their runbooks, and the metrics behind them.

mod canary;
mod export;
mod logs;
mod rejections;
mod spans;
mod traces;
mod trust;

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Bridge, Nats};

const DASHBOARD: &str = "deploy/grafana/natsway.json";
const RULES: &str = "deploy/prometheus/natsway.rules.yaml";
const OPERATING: &str = "docs/operating.md";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics that a text names.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("natsway_") || word.starts_with("process_"))
        .collect()
}

/// The metrics that have a sample on a page.
fn samples(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect()
}

/// A natsway to which everything has happened once.
async fn after_some_traffic(nats: &Nats) -> Bridge {
    let bridge = Bridge::start(nats, "").await;
    bridge
        .post("/v1/publish/a")
        .body("x")
        .send()
        .await
        .expect(204);
    bridge
        .post("/v1/publish/$SYS.a")
        .send()
        .await
        .expect_problem(403, "subject-not-allowed");
    let stream = bridge.sse("/v1/subscribe/a").await.expect_ok();
    drop(stream);
    let gone = [("reason", "client-gone")];
    bridge
        .metric_becomes("natsway_stream_ends_total", &gone, |ends| ends >= 1.0)
        .await;
    bridge
}

#[tokio::test]
async fn every_metric_that_the_dashboard_and_the_alerts_name_exists() {
    let nats = Nats::start().await;
    let bridge = after_some_traffic(&nats).await;
    let metrics = bridge.metrics().await;
    let there = samples(metrics.text());
    for file in [DASHBOARD, RULES] {
        let text = read(file);
        let named = names(&text);
        assert!(named.len() > 10, "{file} names {named:?}");
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}");
    }
}

#[tokio::test]
async fn every_metric_is_explained() {
    let nats = Nats::start().await;
    let bridge = after_some_traffic(&nats).await;
    let metrics = bridge.metrics().await;
    let page = read(OPERATING);
    for name in samples(metrics.text()) {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let listed = format!("`{}`", base.strip_prefix("natsway_").unwrap_or(base));
        assert!(
            page.contains(&listed),
            "{OPERATING} does not explain {name}"
        );
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_its_runbook() {
    let (rules, page) = (read(RULES), read(OPERATING));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15);
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        let severities = ["critical", "warning", "info"];
        let severity = |word: &&str| alert.contains(&format!("labels: {{severity: {word}}}"));
        assert!(severities.iter().any(severity), "{name}");
        let anchor = format!("docs/operating.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&anchor), "{name}");
        assert!(page.contains(&format!("\n## {name}\n")), "{name}");
    }
}

#[test]
fn the_chart_carries_copies() {
    for (file, name) in [(DASHBOARD, "natsway.json"), (RULES, "natsway.rules.yaml")] {
        let copy = format!("charts/natsway/files/{name}");
        assert!(read(file) == read(&copy), "cp {file} {copy}");
    }
}

#[tokio::test]
async fn a_stream_that_natsway_ends_is_counted_with_its_reason() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "").await;
    let mut stream = bridge.sse("/v1/subscribe/a?max=1").await.expect_ok();
    bridge
        .post("/v1/publish/a")
        .body("x")
        .send()
        .await
        .expect(204);
    while stream.event().await.is_some() {}
    bridge
        .metric_becomes("natsway_stream_ends_total", &[("reason", "max")], |ends| {
            ends == 1.0
        })
        .await;
    assert_eq!(
        bridge
            .metric("natsway_stream_ends_total", &[("reason", "client-gone")])
            .await,
        0.0
    );
}

#[tokio::test]
async fn the_process_and_its_runtime_are_measured() {
    let nats = Nats::start().await;
    let bridge = Bridge::start(&nats, "runtime: { workers: 2 }").await;
    let metrics = bridge.metrics().await;
    let get = |name: &str| metrics.get(name, &[]).unwrap_or_default();
    assert_eq!(get("natsway_runtime_workers"), 2.0);
    assert!(get("natsway_runtime_tasks_alive") >= 2.0);
    for worker in ["0", "1"] {
        let busy = metrics.get(
            "natsway_runtime_worker_busy_seconds_total",
            &[("worker", worker)],
        );
        assert!(
            busy.is_some_and(|seconds| seconds > 0.0),
            "{worker}: {busy:?}"
        );
    }
    assert!(get("process_resident_memory_bytes") > 1e6);
    assert!(get("process_open_fds") > 3.0 && get("process_open_fds") <= get("process_max_fds"));
    assert!(get("process_start_time_seconds") > 1.7e9);
}
