//! What the links to NATS and the subscriptions on them count, read when somebody scrapes.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// One link, as it is now.
#[derive(Clone, Debug, Default)]
pub struct LinkSample {
    /// Its name, the value of the label `link`.
    pub link: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether its server is about to leave.
    pub lame_duck: bool,
    /// Connections made, from the start.
    pub connects: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// The last round trip, in seconds.
    pub round_trip_seconds: f64,
    /// Messages waiting to be sent.
    pub queue_messages: u64,
    /// Bytes waiting to be sent.
    pub queue_bytes: u64,
    /// Replies waited for.
    pub replies_pending: u64,
    /// Messages handed to the connection.
    pub sent_messages: u64,
    /// Payload bytes handed to the connection.
    pub sent_bytes: u64,
    /// Messages lost because a subscription was not read fast enough.
    pub slow_consumers: u64,
    /// Permission errors.
    pub permission_errors: u64,
    /// Other errors of the server.
    pub server_errors: u64,
    /// Unconfirmed messages lost with a connection.
    pub lost_unconfirmed: u64,
}

/// All links and subscriptions, as they are now.
#[derive(Clone, Debug, Default)]
pub struct NatsSample {
    /// The links.
    pub links: Vec<LinkSample>,
    /// NATS subscriptions held for readers.
    pub subscriptions: u64,
    /// Consumers of streams that readers share.
    pub replay_feeds: u64,
    /// Those of them that nobody reads any more.
    pub replay_lingering: u64,
    /// Readers of streams that catch up, each with a consumer.
    pub replay_catchups: u64,
    /// Readers that wait for a place to catch up.
    pub replay_waiting: u64,
    /// Messages received for readers.
    pub received: u64,
    /// Messages that slow readers lost.
    pub dropped: u64,
    /// Gaps announced.
    pub gaps: u64,
    /// Bytes held in rings under `memory.streams`.
    pub held_bytes: u64,
    /// `memory.streams`.
    pub held_limit_bytes: u64,
}

/// Takes a sample at each scrape.
pub(super) struct NatsCollector(pub(super) Box<dyn Fn() -> NatsSample + Send + Sync>);

impl fmt::Debug for NatsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsCollector")
    }
}

type Read = fn(&LinkSample) -> u64;

const GAUGES: &[(&str, &str, Read)] = &[
    ("nats_connected", "1 while the link is connected", |link| {
        link.connected.into()
    }),
    (
        "nats_lame_duck",
        "1 while the link's server is about to leave",
        |link| link.lame_duck.into(),
    ),
    (
        "nats_queue_messages",
        "Messages waiting to be sent",
        |link| link.queue_messages,
    ),
    ("nats_queue_bytes", "Bytes waiting to be sent", |link| {
        link.queue_bytes
    }),
    ("nats_replies_pending", "Replies waited for", |link| {
        link.replies_pending
    }),
];

const COUNTERS: &[(&str, &str, Read)] = &[
    ("nats_connects", "Connections made", |link| link.connects),
    ("nats_disconnects", "Connections lost", |link| {
        link.disconnects
    }),
    (
        "nats_connect_failures",
        "Attempts to connect that failed",
        |link| link.connect_failures,
    ),
    (
        "nats_sent_messages",
        "Messages handed to the connection",
        |link| link.sent_messages,
    ),
    (
        "nats_sent_bytes",
        "Payload bytes handed to the connection",
        |link| link.sent_bytes,
    ),
    (
        "nats_slow_consumers",
        "Messages lost because a subscription was not read fast enough",
        |link| link.slow_consumers,
    ),
    (
        "nats_permission_errors",
        "Permission errors of the server",
        |link| link.permission_errors,
    ),
    ("nats_server_errors", "Other errors of the server", |link| {
        link.server_errors
    }),
    (
        "nats_lost_unconfirmed",
        "Messages taken without confirmation and lost with a connection",
        |link| link.lost_unconfirmed,
    ),
];

impl Collector for NatsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sample = (self.0)();
        for (name, help, read) in GAUGES {
            per_link(&mut encoder, name, help, &sample.links, |link| {
                ConstGauge::new(i64::try_from(read(link)).unwrap_or(i64::MAX))
            })?;
        }
        for (name, help, read) in COUNTERS {
            per_link(&mut encoder, name, help, &sample.links, |link| {
                ConstCounter::new(read(link))
            })?;
        }
        round_trips(&mut encoder, &sample.links)?;
        subscriptions(&mut encoder, &sample)
    }
}

fn per_link<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    links: &[LinkSample],
    metric: impl Fn(&LinkSample) -> M,
) -> Result<(), fmt::Error> {
    let Some(first) = links.first() else {
        return Ok(());
    };
    let mut family = encoder.encode_descriptor(name, help, None, metric(first).metric_type())?;
    for link in links {
        let labels = [("link", link.link.as_str())];
        metric(link).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn round_trips(
    encoder: &mut DescriptorEncoder<'_>,
    links: &[LinkSample],
) -> Result<(), fmt::Error> {
    let metric = |link: &LinkSample| ConstGauge::new(link.round_trip_seconds);
    let Some(first) = links.first() else {
        return Ok(());
    };
    let (name, help) = ("nats_round_trip", "The last round trip of the link");
    let kind = metric(first).metric_type();
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
    for link in links {
        let labels = [("link", link.link.as_str())];
        metric(link).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn subscriptions(
    encoder: &mut DescriptorEncoder<'_>,
    sample: &NatsSample,
) -> Result<(), fmt::Error> {
    let gauges = [
        (
            "subscriptions",
            "NATS subscriptions held for readers",
            sample.subscriptions,
        ),
        (
            "replay_feeds",
            "Consumers of streams that readers share",
            sample.replay_feeds,
        ),
        (
            "replay_lingering",
            "Consumers of streams that readers shared and nobody reads",
            sample.replay_lingering,
        ),
        (
            "replay_catchups",
            "Readers of streams that catch up, each with a consumer",
            sample.replay_catchups,
        ),
        (
            "replay_waiting",
            "Readers that wait for a place to catch up",
            sample.replay_waiting,
        ),
        (
            "stream_held_bytes",
            "Bytes held for readers under memory.streams",
            sample.held_bytes,
        ),
        (
            "stream_held_limit_bytes",
            "memory.streams",
            sample.held_limit_bytes,
        ),
    ];
    for (name, help, value) in gauges {
        let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
    }
    let counters = [
        (
            "stream_received_messages",
            "Messages received for readers",
            sample.received,
        ),
        (
            "stream_dropped_messages",
            "Messages that slow readers lost",
            sample.dropped,
        ),
        ("stream_gaps", "Gaps announced to readers", sample.gaps),
    ];
    for (name, help, value) in counters {
        let metric = ConstCounter::new(value);
        metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
    }
    Ok(())
}
