//! What JetStream's verbs count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Gauge, Labels};

/// The families, as they are registered.
#[derive(Debug, Default)]
pub(super) struct Families {
    messages: Family<Labels<1>, Counter>,
    pulls: Family<Labels<1>, Counter>,
    waiting: Gauge,
    acks: Family<Labels<2>, Counter>,
    ack_retries: Counter,
    replayed: Counter,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "fetch_messages",
            "Messages that fetches brought, by what became of them",
            self.messages.clone(),
        );
        registry.register(
            "fetch_pulls",
            "Pull requests of fetches, by how they ended",
            self.pulls.clone(),
        );
        registry.register(
            "fetches_waiting",
            "Fetches without a message so far",
            self.waiting.clone(),
        );
        registry.register("acks", "Acks, by kind and result", self.acks.clone());
        registry.register(
            "ack_retries",
            "Attempts to send an ack again",
            self.ack_retries.clone(),
        );
        registry.register(
            "replay_messages",
            "Messages of streams that were shown to readers",
            self.replayed.clone(),
        );
    }

    pub(super) fn handles(&self) -> JetStreamMetrics {
        let of = |family: &Family<Labels<1>, Counter>, result: &'static str| {
            family.get_or_create_owned(&Labels([("result", result.into())]))
        };
        let ack = |kind: &'static str, result: &'static str| {
            let labels = [("kind", kind.into()), ("result", result.into())];
            self.acks.get_or_create_owned(&Labels(labels))
        };
        JetStreamMetrics {
            delivered: of(&self.messages, "delivered"),
            given_back: of(&self.messages, "given_back"),
            left: of(&self.messages, "left"),
            pulls: Pulls {
                ended: of(&self.pulls, "ended"),
                too_large: of(&self.pulls, "too_large"),
                lost: of(&self.pulls, "lost"),
                orphaned: of(&self.pulls, "orphaned"),
                refused: of(&self.pulls, "refused"),
                failed: of(&self.pulls, "failed"),
            },
            waiting: self.waiting.clone(),
            acks: ["ack", "nak", "term", "progress"].map(|kind| Acks {
                confirmed: ack(kind, "confirmed"),
                refused: ack(kind, "refused"),
                failed: ack(kind, "failed"),
            }),
            ack_retries: self.ack_retries.clone(),
            replayed: self.replayed.clone(),
        }
    }
}

/// The handles.
#[derive(Clone, Debug)]
pub struct JetStreamMetrics {
    /// Messages written to a client.
    pub delivered: Counter,
    /// Messages that were not, and are delivered again at once.
    pub given_back: Counter,
    /// Messages that are delivered again after the ack wait.
    pub left: Counter,
    /// Pull requests.
    pub pulls: Pulls,
    /// Fetches without a message so far.
    pub waiting: Gauge,
    /// Acks, naks, terms and signs of progress.
    pub acks: [Acks; 4],
    /// Attempts to send an ack again.
    pub ack_retries: Counter,
    /// Messages shown to readers of streams.
    pub replayed: Counter,
}

/// Pull requests, by how they ended.
#[derive(Clone, Debug)]
pub struct Pulls {
    /// As they should.
    pub ended: Counter,
    /// The next message was larger than what was asked for.
    pub too_large: Counter,
    /// Nobody answered in time, or the leader changed.
    pub lost: Counter,
    /// Nobody took them.
    pub orphaned: Counter,
    /// The server would not have them.
    pub refused: Counter,
    /// The connection was lost.
    pub failed: Counter,
}

/// One kind of acks, by result.
#[derive(Clone, Debug)]
pub struct Acks {
    /// The server has confirmed it.
    pub confirmed: Counter,
    /// The token is not good, or the consumer is gone.
    pub refused: Counter,
    /// It is not known whether it was taken, or it was not sent.
    pub failed: Counter,
}
