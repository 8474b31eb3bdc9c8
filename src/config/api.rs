//! `api`: the built-in `/v1` endpoints.
//!
//! Each is a struct of its own, with the keys it has and no others, and hands the layers the same
//! [`Policy`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    endpoint::{
        self, Breaker, Buffer, Concurrency, Confirm, OnSlow, Policy, Rate, SizeLimit, Subjects,
        WhenDisconnected,
    },
    errors::Findings,
    text::{self, DurationText, Switch, Switched},
};

const SECOND: Duration = Duration::from_secs(1);

/// The built-in endpoints; each key `false` switches one off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Whether the data listener serves `GET /v1/openapi.json`; the admin listener always does.
    pub openapi: bool,
    /// `POST /v1/publish/{subject}`.
    #[serde(with = "Switch::<Publish>")]
    #[schemars(with = "Switch<Publish>")]
    pub publish: Publish,
    /// `POST /v1/publish` and `POST /v1/publish/{subject}?split=lines`, streamed. Subjects are those of `publish`.
    #[serde(with = "Switch::<Batch>")]
    #[schemars(with = "Switch<Batch>")]
    pub batch: Batch,
    /// `POST /v1/request/{subject}`.
    #[serde(with = "Switch::<Request>")]
    #[schemars(with = "Switch<Request>")]
    pub request: Request,
    /// `GET /v1/subscribe/{subject}` and the multiplexed WebSocket `GET /v1/ws`.
    #[serde(with = "Switch::<Subscribe>")]
    #[schemars(with = "Switch<Subscribe>")]
    pub subscribe: Subscribe,
    /// `/v1/streams/…` and `/v1/acks/…`.
    #[serde(with = "Switch::<JetStream>")]
    #[schemars(with = "Switch<JetStream>")]
    pub jetstream: JetStream,
    /// Whether streams and consumers can be created, deleted and purged over HTTP. Off, because that deletes data.
    pub manage: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            openapi: true,
            publish: Publish::default(),
            batch: Batch::default(),
            request: Request::default(),
            subscribe: Subscribe::default(),
            jetstream: JetStream::default(),
            manage: false,
        }
    }
}

impl Api {
    pub(super) fn check(&self, findings: &mut Findings) {
        findings.under("publish", |findings| self.publish.check(findings));
        findings.under("batch", |findings| self.batch.check(findings));
        findings.under("request", |findings| self.request.check(findings));
        findings.under("subscribe", |findings| self.subscribe.check(findings));
        findings.under("jetstream", |findings| self.jetstream.check(findings));
    }
}

/// `POST /v1/publish/{subject}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects it may touch.
    pub subjects: Subjects,
    /// What a 2xx means for a request that does not say.
    pub confirm: Confirm,
    /// The deadline of a request that names none. A confirmed publish takes milliseconds; 5 s outlasts an election.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline a request may name, so that what hangs cannot hold a place for long.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many at once, and how many may wait.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body; `auto` is the server's `max_payload`, more could not be sent.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            confirm: Confirm::Server,
            timeout: SECOND * 5,
            timeout_max: SECOND * 30,
            concurrency: Concurrency::new(1024, 1024),
            rate: None,
            body_limit: SizeLimit::Auto,
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
        }
    }
}

impl Switched for Publish {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

/// `POST /v1/publish` and `POST /v1/publish/{subject}?split=lines`, streamed. Subjects are those of `publish`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The deadline for progress: how long a fence or an ack may take. It is not for the whole body.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline for progress a request may name.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How long the client may send nothing, so that a stalled upload does not hold one of the few places.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub idle_timeout: Duration,
    /// How many at once, and how many may wait. Few, because one batch can fill a connection to NATS.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body; no limit by default, because it is never held whole.
    pub body_limit: SizeLimit,
    /// The longest line; `auto` is the server's `max_payload`. A longer one is skipped and reported.
    pub line_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            enabled: true,
            timeout: SECOND * 5,
            timeout_max: SECOND * 30,
            idle_timeout: SECOND * 30,
            concurrency: Concurrency::new(16, 16),
            rate: None,
            body_limit: SizeLimit::Unlimited,
            line_limit: SizeLimit::Auto,
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
        }
    }
}

impl Switched for Batch {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

/// `POST /v1/request/{subject}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects it may touch.
    pub subjects: Subjects,
    /// The deadline of a request that names none.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline a request may name: a minute, as proxies in front seldom wait longer.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many at once, and how many may wait.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body; `auto` is the server's `max_payload`, more could not be sent.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            timeout: SECOND * 5,
            timeout_max: SECOND * 60,
            concurrency: Concurrency::new(1024, 1024),
            rate: None,
            body_limit: SizeLimit::Auto,
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
        }
    }
}

impl Switched for Request {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

/// `GET /v1/subscribe/{subject}` and the multiplexed WebSocket `GET /v1/ws`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Subscribe {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects it may touch.
    pub subjects: Subjects,
    /// How long opening may take, NATS being away included; after that the stream has no deadline.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline for opening a request may name.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many streams may be open; one more is answered 503. None waits, whatever `queue` says: nobody knows when a place will be free.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether opening fails at once or waits within the timeout while NATS is away. It waits, because a browser that is answered an error gives up.
    pub when_disconnected: WhenDisconnected,
    /// Streams that may be open in the whole process, declared routes included; one more is answered 429. Below `http.connections_max`, so that streams never take the last connection.
    pub streams_max: usize,
    /// What happens to a reader that is too slow.
    pub on_slow: OnSlow,
    /// How far a reader may fall behind. A thousand messages ride out a pause of a second or so; 1 MiB keeps ten thousand readers bounded together with `memory.streams`.
    pub buffer: Buffer,
}

impl Default for Subscribe {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            timeout: SECOND * 10,
            timeout_max: SECOND * 60,
            concurrency: Concurrency::new(10_000, 0),
            rate: None,
            breaker: None,
            when_disconnected: WhenDisconnected::Wait,
            streams_max: 10_000,
            on_slow: OnSlow::Drop,
            buffer: Buffer {
                messages: 1024,
                bytes: 1 << 20,
            },
        }
    }
}

impl Switched for Subscribe {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

/// `/v1/streams/…` and `/v1/acks/…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JetStream {
    /// Whether it exists; `false` in place of the whole object says the same.
    pub enabled: bool,
    /// The subjects that may be read: those of stored messages, of filters and of acks.
    pub subjects: Subjects,
    /// The deadline of a request that names none. A fetch waits for messages within it.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// The longest deadline, and so the longest `wait` of a fetch, a request may name.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout_max: Duration,
    /// How many at once, and how many may wait.
    pub concurrency: Concurrency,
    /// How many in a span of time. Without a limit by default: what is too much depends on who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body: a stream's configuration, or a list of ack tokens.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while. Off by default, because one failing subject would close the endpoint to all others; a declared route is the place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away.
    pub when_disconnected: WhenDisconnected,
    /// Readers of streams that may catch up at once, each with a consumer of its own on the server; others wait. Readers that have caught up share one feed.
    pub catchups_max: usize,
}

impl Default for JetStream {
    fn default() -> Self {
        Self {
            enabled: true,
            subjects: Subjects::default(),
            timeout: SECOND * 5,
            timeout_max: SECOND * 60,
            concurrency: Concurrency::new(1024, 1024),
            rate: None,
            body_limit: SizeLimit::Bytes(1 << 20),
            breaker: None,
            when_disconnected: WhenDisconnected::Fail,
            catchups_max: 128,
        }
    }
}

impl Switched for JetStream {
    fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

/// What each endpoint shares with the others.
macro_rules! endpoint {
    ($type:ty, $body_limit:expr, $check:expr) => {
        impl $type {
            /// What the layers need to know.
            #[must_use]
            pub fn policy(&self) -> Policy {
                Policy {
                    timeout: self.timeout,
                    timeout_max: self.timeout_max,
                    concurrency: self.concurrency,
                    rate: self.rate.clone(),
                    body_limit: $body_limit(self),
                    breaker: self.breaker,
                    when_disconnected: self.when_disconnected,
                }
            }

            fn check(&self, findings: &mut Findings) {
                endpoint::check_policy(&self.policy(), findings);
                $check(self, findings);
            }
        }
    };
}

endpoint!(Publish, |publish: &Publish| publish.body_limit, |_, _| ());
endpoint!(
    Batch,
    |batch: &Batch| batch.body_limit,
    |batch: &Batch, findings: &mut Findings| {
        findings.require(
            !batch.idle_timeout.is_zero(),
            "idle_timeout",
            "must be longer than 0",
        );
        findings.require(
            batch.line_limit != SizeLimit::Unlimited,
            "line_limit",
            "must be `auto` or a size: a line is held whole",
        );
    }
);
endpoint!(Request, |request: &Request| request.body_limit, |_, _| ());
endpoint!(
    Subscribe,
    |_| SizeLimit::Auto,
    |subscribe: &Subscribe, findings: &mut Findings| {
        findings.require(
            subscribe.streams_max > 0,
            "streams_max",
            "must be at least 1; switch the endpoint off to refuse streams",
        );
        findings.under("buffer", |findings| subscribe.buffer.check(findings));
    }
);
endpoint!(
    JetStream,
    |jetstream: &JetStream| jetstream.body_limit,
    |jetstream: &JetStream, findings: &mut Findings| {
        findings.require(
            jetstream.catchups_max > 0,
            "catchups_max",
            "must be at least 1",
        );
    }
);
