//! Three nats-servers that know each other.

use super::eventually::{SOON, eventually};
use super::nats::{Builder, Nats};
use super::process::Port;

const SIZE: usize = 3;

/// The nodes; each can be killed, paused and restarted by itself.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Nats>,
    _routes: Vec<Port>,
}

impl Cluster {
    /// Three nodes with JetStream, formed: every route is up and a meta leader is elected.
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// The same with more configuration text on every node.
    pub(crate) async fn with(config: &str) -> Self {
        for _ in 0..20 {
            let cluster = Self::spawn(config);
            if cluster.all_answer().await {
                cluster.is_formed().await;
                return cluster;
            }
        }
        panic!("no free ports for a cluster after 20 attempts");
    }

    /// The URLs of all nodes, separated by commas.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Nats::url).collect();
        urls.join(",")
    }

    /// The node with this name.
    pub(crate) fn node(&self, name: &str) -> &Nats {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .unwrap_or_else(|| panic!("no node is called {name}"))
    }

    /// Waits until every node sees the others and the same meta leader.
    pub(crate) async fn is_formed(&self) {
        eventually(SOON, "the cluster has a meta leader", async || {
            let mut leaders = Vec::new();
            for node in &self.nodes {
                let page = node.monitor("/jsz").await;
                leaders.push(page["meta_cluster"]["leader"].as_str().map(str::to_owned));
            }
            leaders[0].is_some() && leaders.iter().all(|leader| *leader == leaders[0])
        })
        .await;
        eventually(SOON, "every node is healthy", async || {
            for node in &self.nodes {
                if node.monitor("/healthz").await["status"] != "ok" {
                    return false;
                }
            }
            true
        })
        .await;
    }

    fn spawn(config: &str) -> Self {
        let routes: Vec<Port> = (0..SIZE).map(|_| Port::some()).collect();
        let urls: Vec<String> = routes
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{}\"", port.number()))
            .collect();
        let name = format!("cluster-{:08x}", rand::random::<u32>());
        let node = |(index, route): (usize, &Port)| -> Nats {
            let route = route.number();
            let builder: Builder = Nats::builder()
                .name(&format!("{name}-n{index}"))
                .config(config)
                .config(&format!(
                    "cluster {{ name: {name}, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
                    urls.join(", ")
                ));
            builder.spawn()
        };
        Self {
            nodes: routes.iter().enumerate().map(node).collect(),
            _routes: routes,
        }
    }

    async fn all_answer(&self) -> bool {
        for node in &self.nodes {
            if !node.answers().await {
                return false;
            }
        }
        true
    }
}
