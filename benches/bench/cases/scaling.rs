//! How the cost grows with workers, connections, payloads, subjects and readers. One panel a question;
//! where cost grows faster than the work, the line bends.

use std::time::Duration;

use super::{Bench, CONNECTIONS, PAYLOAD_BYTES};
use crate::http_load;
use crate::plot::{Panel, Series};
use crate::process::{Process, cpu_us};

const CONFIRMS: [(&str, &str); 2] = [("none", "?confirm=none"), ("server", "")];

/// One measured point.
struct Point {
    per_s: f64,
    cpu_us: f64,
}

impl Bench {
    /// All panels, in the order in which they are shown.
    pub(super) async fn scaling(&mut self) -> Vec<Panel> {
        vec![
            self.workers().await,
            self.connections().await,
            self.payloads().await,
            self.subjects().await,
            self.readers().await,
        ]
    }

    async fn workers(&mut self) -> Panel {
        let mut panel = Panel::new("Publishes a second", "workers");
        for (confirm, query) in CONFIRMS {
            let mut series = Series::new(confirm);
            for workers in [1, 2] {
                let more = format!("runtime: {{ workers: {workers} }}\n");
                let natsway = Process::natsway(&self.nats.address, &more);
                let requests = [request(
                    &natsway.address,
                    query,
                    "bench.scale",
                    PAYLOAD_BYTES,
                )];
                let name = format!("publish {confirm}, {workers} workers");
                let point = self.point(&name, &natsway, &requests, CONNECTIONS).await;
                series.add(f64::from(workers), point.per_s);
            }
            panel.add(series);
        }
        panel
    }

    async fn connections(&mut self) -> Panel {
        let mut panel = Panel::new("Publishes a second", "connections");
        let natsway = Process::natsway(&self.nats.address, "");
        for (confirm, query) in CONFIRMS {
            let mut series = Series::new(confirm);
            let requests = [request(
                &natsway.address,
                query,
                "bench.scale",
                PAYLOAD_BYTES,
            )];
            for connections in [1, 4, 16, 64, 256, 1024] {
                let name = format!("publish {confirm}, {connections} connections");
                let point = self.point(&name, &natsway, &requests, connections).await;
                series.add(connections as f64, point.per_s);
            }
            panel.add(series);
        }
        panel
    }

    async fn payloads(&mut self) -> Panel {
        let mut panel = Panel::new("CPU us a publish", "payload bytes");
        let natsway = Process::natsway(&self.nats.address, "");
        for (confirm, query) in CONFIRMS {
            let mut series = Series::new(confirm);
            for bytes in [16, 128, 1 << 10, 8 << 10, 64 << 10, 512 << 10] {
                let requests = [request(&natsway.address, query, "bench.scale", bytes)];
                let name = format!("publish {confirm}, {bytes} bytes");
                let point = self.point(&name, &natsway, &requests, CONNECTIONS).await;
                series.add(bytes as f64, point.cpu_us);
            }
            panel.add(series);
        }
        panel
    }

    async fn subjects(&mut self) -> Panel {
        let mut panel = Panel::new("Publishes a second", "subjects");
        let natsway = Process::natsway(&self.nats.address, "");
        for (confirm, query) in CONFIRMS {
            let mut series = Series::new(confirm);
            for subjects in [1, 100, 10_000, 100_000] {
                let requests: Vec<Vec<u8>> = (0..subjects)
                    .map(|n| {
                        request(
                            &natsway.address,
                            query,
                            &format!("bench.s{n}"),
                            PAYLOAD_BYTES,
                        )
                    })
                    .collect();
                let name = format!("publish {confirm}, {subjects} subjects");
                let point = self.point(&name, &natsway, &requests, CONNECTIONS).await;
                series.add(f64::from(subjects), point.per_s);
            }
            panel.add(series);
        }
        panel
    }

    async fn readers(&mut self) -> Panel {
        let mut panel = Panel::new("Deliveries a CPU second", "SSE readers");
        // More than two cores can write would only measure what is dropped, so the largest crowd gets
        // less; and a smaller one once more, which tells apart what is the crowd's and what the rate's.
        for (rate_hz, crowds) in [(200, &[1, 10, 100, 1000][..]), (20, &[1000, 10_000][..])] {
            let mut series = Series::new(&format!("{rate_hz} messages a second"));
            for &readers in crowds {
                let natsway = Process::natsway(&self.nats.address, "");
                let (address, pid) = (natsway.address.clone(), natsway.pid());
                let name = format!("sse, {readers} readers, {rate_hz} a second");
                self.deliver(&name, &address, pid, readers, Some(rate_hz))
                    .await;
                let per_cpu_s = self.report.median(&name, "per_cpu_s").unwrap_or_default();
                series.add(f64::from(u32::try_from(readers).unwrap()), per_cpu_s);
            }
            panel.add(series);
        }
        panel
    }

    async fn point(
        &mut self,
        name: &str,
        natsway: &Process,
        requests: &[Vec<u8>],
        connections: usize,
    ) -> Point {
        let span = self.span.min(Duration::from_secs(1));
        let before = cpu_us(natsway.pid());
        let found = http_load::many(&natsway.address, requests, connections, span).await;
        let spent = (cpu_us(natsway.pid()) - before) as f64;
        let point = Point {
            per_s: (found.answers - found.failed) as f64 / found.elapsed.as_secs_f64(),
            cpu_us: spent / found.answers as f64,
        };
        let line = [
            ("per_s", point.per_s),
            ("p50_us", found.percentile_us(50)),
            ("p99_us", found.percentile_us(99)),
            ("cpu_us", point.cpu_us),
            // Unconfirmed messages may come faster than NATS takes them.
            ("refused_share", found.failed as f64 / found.answers as f64),
        ];
        self.report.add(name, &line);
        point
    }
}

fn request(host: &str, query: &str, subject: &str, bytes: usize) -> Vec<u8> {
    let path = format!("/v1/publish/{subject}{query}");
    http_load::post(host, &path, "", &vec![b'x'; bytes])
}
