//! A look at a stream: what its leader says of it at one moment.

use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Api;
use crate::nats::Call;
use crate::problem::{Code, Problem, Source};
use crate::subject::{Name, SubjectPattern};
use crate::translate::position::Tag;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Which creation of the stream this is.
    pub(super) tag: Tag,
    /// The first sequence there is; one more than the last where there is none.
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) subjects: Vec<String>,
    /// Nobody else has a copy, so no consumer can be behind the leader.
    pub(super) is_single: bool,
    pub(super) retention: Retention,
    /// Whether the oldest messages have to go for others, or with time.
    pub(super) trims: bool,
    /// Whether messages have to go for others of their subject.
    pub(super) per_subject: bool,
}

/// When messages leave the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Retention {
    #[default]
    Limits,
    Interest,
    WorkQueue,
}

#[derive(Deserialize)]
struct Wire {
    config: Config,
    created: String,
    state: State,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    subjects: Option<Vec<String>>,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    num_replicas: u64,
    #[serde(default)]
    max_msgs: i64,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_age: i64,
    #[serde(default)]
    max_msgs_per_subject: i64,
}

#[derive(Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct Found {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    seq: u64,
}

impl Look {
    /// Looks.
    pub(super) async fn at(api: &Api, stream: &Name, call: Call) -> Result<Self, Problem> {
        let wire: Wire = api
            .read(&format!("STREAM.INFO.{stream}"), &json!({}), call)
            .await?;
        Self::of(wire).ok_or_else(|| {
            Problem::new(Code::BadReply)
                .source(Source::Nats)
                .detail("JetStream does not say when the stream was created")
        })
    }

    fn of(wire: Wire) -> Option<Self> {
        let created = OffsetDateTime::parse(&wire.created, &Rfc3339).ok()?;
        let config = wire.config;
        Some(Self {
            tag: Tag::of(created),
            // An empty stream that never held anything says 0.
            first_seq: wire.state.first_seq.max(1),
            last_seq: wire.state.last_seq,
            trims: config.max_msgs > 0 || config.max_bytes > 0 || config.max_age > 0,
            per_subject: config.max_msgs_per_subject > 0,
            subjects: config.subjects.unwrap_or_default(),
            is_single: config.num_replicas <= 1,
            retention: config.retention,
        })
    }
}

/// The sequence of the last message with one of these subjects, or at all.
pub(super) async fn last_of(
    api: &Api,
    stream: &Name,
    filters: &[SubjectPattern],
    call: Call,
) -> Result<Option<u64>, Problem> {
    let verb = format!("STREAM.MSG.GET.{stream}");
    let subjects: Vec<&str> = match filters {
        [] => vec![">"],
        filters => filters.iter().map(SubjectPattern::as_str).collect(),
    };
    let mut last = None;
    for subject in subjects {
        match api
            .read::<Found>(&verb, &json!({"last_by_subj": subject}), call)
            .await
        {
            Ok(found) => last = last.max(Some(found.message.seq)),
            Err(problem) if problem.code() == Code::MessageNotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Option<Look> {
        Look::of(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_the_leader_says_is_read() {
        let seen = look(
            r#"{"type":"x","created":"2026-01-31T12:00:00.123456789Z",
                "config":{"name":"S","subjects":["a.>"],"retention":"workqueue","num_replicas":3,"max_msgs":-1,"max_age":1,"max_msgs_per_subject":-1},
                "state":{"messages":2,"first_seq":4,"last_seq":9,"first_ts":"0001-01-01T00:00:00Z"}}"#,
        )
        .unwrap();
        assert_eq!((seen.first_seq, seen.last_seq), (4, 9));
        assert_eq!(seen.retention, Retention::WorkQueue);
        assert!(!seen.is_single);
        assert!(seen.trims && !seen.per_subject);
        assert_eq!(seen.subjects, ["a.>"]);
    }

    #[test]
    fn a_stream_that_never_held_anything_begins_with_1() {
        let text = r#"{"created":"2026-01-31T12:00:00Z","config":{"retention":"limits"},"state":{"first_seq":0,"last_seq":0}}"#;
        let seen = look(text).unwrap();
        assert_eq!((seen.first_seq, seen.last_seq), (1, 0));
        assert!(seen.is_single && seen.subjects.is_empty());
        assert!(!seen.trims && !seen.per_subject);
        let text = text.replace("2026-01-31T12:00:00Z", "yesterday");
        assert_eq!(look(&text), None);
    }
}
