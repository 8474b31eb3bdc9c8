//! What a declared route does.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Param;
use crate::{
    config::{
        endpoint::{Buffer, Confirm, OnSlow},
        text::written,
    },
    subject::{Name, SubjectTemplate},
};

/// The one thing a route does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action<'r> {
    /// Publish the body.
    Publish(&'r PublishAction),
    /// Send a request.
    Request(&'r RequestAction),
    /// Subscribe.
    Subscribe(&'r SubscribeAction),
    /// Read a stream.
    Replay(&'r ReplayAction),
}

impl Action<'_> {
    /// The word it is written with.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Request(_) => "request",
            Self::Subscribe(_) => "subscribe",
            Self::Replay(_) => "replay",
        }
    }

    /// The query parameters that mean something to it.
    #[must_use]
    pub const fn params(&self) -> &'static [Param] {
        use Param::{
            Confirm, Encoding, Errors, ExpectLastSeq, ExpectLastSubjectSeq, ExpectStream, Format,
            From, Gap, LastEventId, Max, MaxReplies, OnSlow, Queue, Timeout, Ttl, Until,
        };
        match self {
            Self::Publish(_) => &[
                Confirm,
                ExpectLastSeq,
                ExpectLastSubjectSeq,
                ExpectStream,
                Timeout,
                Ttl,
            ],
            Self::Request(_) => &[Gap, MaxReplies, Timeout],
            Self::Subscribe(_) => &[
                Encoding,
                Errors,
                Format,
                LastEventId,
                Max,
                OnSlow,
                Queue,
                Timeout,
            ],
            Self::Replay(_) => &[
                Encoding,
                Errors,
                Format,
                From,
                LastEventId,
                Max,
                Timeout,
                Until,
            ],
        }
    }

    /// The subjects it uses, each with the key it is written under.
    pub(super) fn subjects(&self) -> Vec<(&'static str, Option<usize>, &SubjectTemplate)> {
        match self {
            Self::Publish(publish) => vec![("subject", None, &publish.subject)],
            Self::Request(request) => vec![("subject", None, &request.subject)],
            Self::Replay(replay) => replay
                .subject
                .iter()
                .map(|subject| ("subject", None, subject))
                .collect(),
            Self::Subscribe(subscribe) => {
                let subjects = subscribe.subjects.iter().enumerate();
                subjects
                    .map(|(index, subject)| ("subjects", Some(index), subject))
                    .collect()
            }
        }
    }
}

/// Publish the body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishAction {
    /// The subject; may hold captures.
    pub subject: SubjectTemplate,
    /// What a 2xx means.
    #[serde(default)]
    pub confirm: Confirm,
    /// The stream that has to store it, with `confirm: stream`; any by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Name>,
}

/// Send the body as a request and answer with the reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestAction {
    /// The subject; may hold captures.
    pub subject: SubjectTemplate,
}

/// Stream messages as they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeAction {
    /// The subjects; may hold captures and wildcards, and may not overlap.
    pub subjects: Vec<SubjectTemplate>,
    /// The queue group, if readers share the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    /// What happens to a reader that is too slow; by default as `api.subscribe.on_slow`, and `end` with a queue group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_slow: Option<OnSlow>,
    /// How far a reader may fall behind; by default as `api.subscribe.buffer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<Buffer>,
}

/// Stream the messages of a JetStream stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayAction {
    /// The stream.
    pub stream: Name,
    /// Only these subjects; may hold captures and wildcards. The whole stream by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectTemplate>,
    /// Where a reader begins that does not resume.
    #[serde(default)]
    pub from: ReplayFrom,
    /// `now` ends the stream when the reader has caught up; it follows for ever by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<ReplayUntil>,
}

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayUntil {
    /// When it has caught up.
    Now,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayFrom {
    /// With the next message.
    #[default]
    New,
    /// With the first message.
    All,
    /// With the last message.
    Last,
    /// With the last message of every subject.
    LastPerSubject,
    /// With this sequence.
    Seq(u64),
    /// With the first message stored at this time or later.
    Time(OffsetDateTime),
}

impl FromStr for ReplayFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is none of new, all, last, last_per_subject, seq:<number> and time:<RFC 3339>"
            )
        };
        match text.split_once(':') {
            None => match text {
                "new" => Ok(Self::New),
                "all" => Ok(Self::All),
                "last" => Ok(Self::Last),
                "last_per_subject" => Ok(Self::LastPerSubject),
                _ => Err(wrong()),
            },
            Some(("seq", number)) => number.parse().map(Self::Seq).map_err(|_| wrong()),
            Some(("time", time)) => OffsetDateTime::parse(time, &Rfc3339)
                .map(Self::Time)
                .map_err(|_| wrong()),
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for ReplayFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::LastPerSubject => f.write_str("last_per_subject"),
            Self::Seq(number) => write!(f, "seq:{number}"),
            Self::Time(time) => {
                write!(f, "time:{}", time.format(&Rfc3339).map_err(|_| fmt::Error)?)
            }
        }
    }
}

written!(
    ReplayFrom,
    "ReplayFrom",
    "new, all, last, last_per_subject, seq:<number> or time:<RFC 3339>",
    ["new", "all", "seq:42", "time:2026-01-31T00:00:00Z"]
);
