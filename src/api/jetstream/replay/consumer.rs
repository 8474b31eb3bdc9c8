//! A consumer of natsway's own on the server: without acks, in memory, gone with whoever reads.

use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use super::Api;
use super::look::Look;
use super::selection::Selection;
use super::start::Policy;
use crate::api::jetstream::versions::Feature;
use crate::nats::{Call, Confirm, Outbound};
use crate::problem::{Code, Problem};
use crate::subject::SubjectPattern;

/// The server lets go of a consumer that nobody pulls from for so long.
const INACTIVE: Duration = Duration::from_secs(30);
/// A copy of the stream may be a little ahead of what its leader says.
const LEADER_LAG: Duration = Duration::from_secs(2);

/// A consumer with more than one filter.
const FILTERS: Feature = Feature {
    name: "a replay of several subjects",
    since: (2, 10),
};

/// With what it begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    After(u64),
    Asked(Policy),
}

/// Why there is no consumer.
#[derive(Debug)]
pub(super) enum Refused {
    /// The stream is gone, or another one has its name.
    Gone,
    Problem(Problem),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        if problem.code() == Code::StreamNotFound {
            return Self::Gone;
        }
        Self::Problem(problem)
    }
}

/// The consumer. Dropping it deletes it.
#[derive(Debug)]
pub(super) struct Consumer {
    api: Api,
    path: String,
    /// How many messages it has delivered.
    pub(super) delivered: u64,
    /// How many are there for it.
    pub(super) pending: u64,
    /// Before the first one that it can deliver.
    pub(super) position: u64,
}

#[derive(Deserialize)]
struct Created {
    delivered: Sequences,
    num_pending: u64,
}

#[derive(Deserialize)]
struct Sequences {
    stream_seq: u64,
}

impl Consumer {
    /// Creates one, and looks at the stream afterwards: so it is certain that it reads the creation
    /// of the stream that is meant, and what the stream has let go of before it began.
    pub(super) async fn open(
        api: &Api,
        of: &Selection,
        begin: Begin,
        call: Call,
    ) -> Result<(Self, Look), Refused> {
        let consumer = Self::create(api, of, begin, call).await?;
        let behind = |look: &Look| match begin {
            Begin::After(seq) => look.last_seq < seq,
            Begin::Asked(_) => false,
        };
        let patience = Instant::now() + LEADER_LAG;
        loop {
            let look = Look::at(api, &of.stream, call).await?;
            if look.tag != of.tag {
                return Err(Refused::Gone);
            }
            if !behind(&look) {
                return Ok((consumer, look));
            }
            if of.is_single || Instant::now() > patience {
                return Err(Refused::Gone);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn create(api: &Api, of: &Selection, begin: Begin, call: Call) -> Result<Self, Problem> {
        if of.filters.len() > 1 {
            FILTERS.require(api.nats())?;
        }
        let name = format!("natsway-{:032x}", rand::random::<u128>());
        let path = format!("{}.{name}", of.stream);
        let verb = match &of.filters[..] {
            // With the filter in the subject, so that permissions can name it.
            [filter] => format!("CONSUMER.CREATE.{path}.{filter}"),
            _ => format!("CONSUMER.CREATE.{path}"),
        };
        let request = json!({
            "stream_name": of.stream.as_str(),
            "config": config(&name, of, begin),
            "action": "create",
        });
        // From here on it may exist, whatever becomes of this future.
        let mut consumer = Self {
            api: api.clone(),
            path,
            delivered: 0,
            pending: 0,
            position: 0,
        };
        let created: Created = api.change(&verb, &request, call).await?;
        consumer.pending = created.num_pending;
        consumer.position = created.delivered.stream_seq;
        Ok(consumer)
    }

    pub(super) const fn api(&self) -> &Api {
        &self.api
    }

    /// Where pulls are sent to.
    pub(super) fn next_subject(&self) -> Subject {
        format!("$JS.API.CONSUMER.MSG.NEXT.{}", self.path).into()
    }

    /// Counts a delivery; false where one before it is missing.
    pub(super) const fn counts(&mut self, consumer_seq: u64) -> bool {
        let is_next = consumer_seq == self.delivered + 1;
        self.delivered = consumer_seq;
        is_next
    }
}

impl Drop for Consumer {
    /// Nobody waits for the answer; what gets lost is deleted by the server after a while.
    fn drop(&mut self) {
        let subject = format!("$JS.API.CONSUMER.DELETE.{}", self.path);
        let call = Call {
            deadline: Instant::now(),
            wait: false,
        };
        let message = Outbound::new(subject.into(), Bytes::new());
        let link = self.api.link();
        let _ = link
            .publish(message, Confirm::Accepted, call)
            .now_or_never();
    }
}

fn config(name: &str, of: &Selection, begin: Begin) -> Value {
    let mut config = json!({
        "name": name,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": true,
        "inactive_threshold": u64::try_from(INACTIVE.as_nanos()).unwrap_or(u64::MAX),
    });
    match begin {
        Begin::After(seq) => {
            config["deliver_policy"] = "by_start_sequence".into();
            config["opt_start_seq"] = seq.saturating_add(1).into();
        }
        Begin::Asked(Policy::Time(time)) => {
            config["deliver_policy"] = "by_start_time".into();
            config["opt_start_time"] = rfc3339(time).into();
        }
        Begin::Asked(Policy::LastPerSubject) => {
            config["deliver_policy"] = "last_per_subject".into();
        }
    }
    match &of.filters[..] {
        // This policy wants a filter; this one lets everything through.
        [] if matches!(begin, Begin::Asked(Policy::LastPerSubject)) => {
            config["filter_subject"] = ">".into();
        }
        [] => {}
        [filter] => config["filter_subject"] = filter.as_str().into(),
        filters => {
            let subjects = filters.iter().map(SubjectPattern::as_str);
            config["filter_subjects"] = subjects.collect();
        }
    }
    // Where interest keeps messages, a consumer must have as many copies as the stream.
    if !of.is_interest {
        config["num_replicas"] = 1.into();
    }
    config
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339)
        .expect("a time that was read from RFC 3339 can be written as it")
}
