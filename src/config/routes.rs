//! `routes`: HTTP paths of one's own, each mapped to one thing NATS does.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    endpoint::{Breaker, Concurrency, Policy, Rate, SizeLimit, WhenDisconnected},
    secret,
    text::{self, DurationText, ValueTemplate},
};

mod action;
mod check;
mod path;

pub use action::{
    Action, PublishAction, ReplayAction, ReplayFrom, ReplayUntil, RequestAction, SubscribeAction,
};
pub use check::RESERVED_NAMES;
pub(super) use check::check_routes;
pub use path::RoutePath;

/// A declared route: a method and a path, and exactly one of `publish`, `request`, `subscribe` and `replay`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Its name in metrics, logs and the OpenAPI document, and before `Idempotency-Key`s: up to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What requests it takes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Publish the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishAction>,
    /// Send the body as a request and answer with the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestAction>,
    /// Stream messages as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<SubscribeAction>,
    /// Stream the messages of a JetStream stream, in order and resumable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayAction>,
    /// The deadline: of a publish or request 5 s unless said otherwise, of opening a stream 10 s.
    #[serde(
        with = "text::duration_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub timeout: Option<Duration>,
    /// The longest deadline a request may name where `params` lists `timeout`; by default the timeout.
    #[serde(
        with = "text::duration_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub timeout_max: Option<Duration>,
    /// How many at once, and how many may wait; for a stream, how many may be open, none waiting.
    pub concurrency: Concurrency,
    /// How many in a span of time; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body; `auto` is the server's `max_payload`.
    pub body_limit: SizeLimit,
    /// When to stop trying for a while; never by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Whether a request fails at once or waits within its timeout while NATS is away. By default streams wait and the others fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_disconnected: Option<WhenDisconnected>,
    /// What becomes of headers.
    pub headers: RouteHeaders,
    /// Query parameters of natsway a request may use; none by default. One that natsway knows and this does not list is answered 400, all others are ignored.
    pub params: Vec<Param>,
}

impl Route {
    /// What it does. A checked configuration always has exactly one action.
    #[must_use]
    pub fn action(&self) -> Option<Action<'_>> {
        let actions = self.actions();
        if let [only] = actions[..] {
            Some(only)
        } else {
            None
        }
    }

    fn actions(&self) -> Vec<Action<'_>> {
        let publish = self.publish.as_ref().map(Action::Publish);
        let request = self.request.as_ref().map(Action::Request);
        let subscribe = self.subscribe.as_ref().map(Action::Subscribe);
        let replay = self.replay.as_ref().map(Action::Replay);
        [publish, request, subscribe, replay]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Whether it answers with a stream.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.subscribe.is_some() || self.replay.is_some()
    }

    /// What the layers need to know.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let (timeout, when_disconnected) = if self.streams() {
            (Duration::from_secs(10), WhenDisconnected::Wait)
        } else {
            (Duration::from_secs(5), WhenDisconnected::Fail)
        };
        let timeout = self.timeout.unwrap_or(timeout);
        Policy {
            timeout,
            timeout_max: self.timeout_max.unwrap_or(timeout),
            concurrency: self.concurrency,
            rate: self.rate.clone(),
            body_limit: self.body_limit,
            breaker: self.breaker,
            when_disconnected: self.when_disconnected.unwrap_or(when_disconnected),
        }
    }
}

/// What requests a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The method. Streams are GET; a publish is never GET, because a GET may be repeated or prefetched.
    pub method: Method,
    /// The path, whose segments may be `{captures}`. Not below `/v1/`. Where two paths fit a request, the one with the earlier literal segment is taken.
    pub path: RoutePath,
}

/// The method of a declared route.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[allow(missing_docs, reason = "HTTP's own word")]
    #[default]
    Get,
    #[allow(missing_docs, reason = "HTTP's own word")]
    Post,
    #[allow(missing_docs, reason = "HTTP's own word")]
    Put,
    #[allow(missing_docs, reason = "HTTP's own word")]
    Patch,
    #[allow(missing_docs, reason = "HTTP's own word")]
    Delete,
}

impl Method {
    /// The same method for the HTTP library.
    #[must_use]
    pub fn to_http(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Patch => http::Method::PATCH,
            Self::Delete => http::Method::DELETE,
        }
    }
}

/// What becomes of headers on a declared route, beside what every endpoint does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteHeaders {
    /// Request headers that go along with the message, under the name as it is written here.
    pub forward: Vec<String>,
    /// Headers every message gets; values may hold `{captures}` and `{query.name}`. `natsway config` prints no value of a header whose name says that it is secret (`authorization`, `cookie`, `key`, `token`, `secret`, `password`, `credential` in it).
    #[serde(serialize_with = "secret::without_secret_headers")]
    pub set: BTreeMap<String, ValueTemplate>,
    /// Headers of the reply that are answered under their own name instead of as `NatsH-…`.
    #[serde(rename = "return")]
    pub returned: Vec<String>,
}

macro_rules! params {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// A query parameter natsway knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Param {
            $(#[doc = $doc] $variant,)*
        }

        impl Param {
            /// Every parameter.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in the query.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}
params! {
    Confirm "confirm" "What a 2xx means.";
    Encoding "encoding" "The form of the envelope.";
    Errors "errors" "How a failed opening is answered.";
    ExpectLastSeq "expect_last_seq" "A JetStream precondition.";
    ExpectLastSubjectSeq "expect_last_subject_seq" "A JetStream precondition.";
    ExpectStream "expect_stream" "A JetStream precondition.";
    Format "format" "Envelopes or payloads.";
    From "from" "Where a replay begins.";
    Gap "gap" "The pause that ends many replies.";
    LastEventId "last_event_id" "Where a stream resumes.";
    Max "max" "How many messages.";
    MaxReplies "max_replies" "How many replies.";
    OnSlow "on_slow" "What happens to a slow reader.";
    Queue "queue" "The queue group.";
    Split "split" "A payload for every line.";
    Subject "subject" "The subjects.";
    Timeout "timeout" "The deadline.";
    Ttl "ttl" "How long a stream keeps the message.";
    Until "until" "Where a replay ends.";
}
