//! `/v1/streams/{stream}/consumers/{consumer}`: durable pull consumers.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answer::json as answer;
use super::asked::Asked;
use super::config_json::ConfigJson;
use super::{Api, JetStream};
use crate::api::query::Params;
use crate::nats::Call;
use crate::problem::{Code, Problem};
use crate::subject::Name;

static PARAMS: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["timeout"]));

/// The members of the API's answer that say how far a consumer is.
const STATE: [&str; 6] = [
    "delivered",
    "ack_floor",
    "num_pending",
    "num_ack_pending",
    "num_redelivered",
    "num_waiting",
];

/// What the API says of a consumer.
#[derive(Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    pub(super) config: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl ConsumerInfo {
    /// What it filters by; nothing where it delivers the whole stream.
    pub(super) fn filters(&self) -> Vec<String> {
        filters_of(|name| self.config.get(name).cloned())
    }

    pub(super) fn is_push(&self) -> bool {
        self.config["deliver_subject"]
            .as_str()
            .is_some_and(|subject| !subject.is_empty())
    }

    pub(super) fn has_groups(&self) -> bool {
        self.config["priority_policy"]
            .as_str()
            .is_some_and(|policy| !matches!(policy, "" | "none"))
    }

    pub(super) fn is_acked(&self) -> bool {
        self.config["ack_policy"].as_str() != Some("none")
    }

    /// A limit of single pulls, where one is set.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        self.config[name].as_u64().filter(|limit| *limit > 0)
    }

    /// The longest that a single pull may wait, where that is set.
    pub(super) fn expires_max(&self) -> Option<Duration> {
        self.limit("max_expires").map(Duration::from_nanos)
    }

    /// Whether it was created in a later second than `given_at` (Unix seconds), and so has never
    /// delivered `seq`, which a consumer of the same name delivered then. Within the same second nobody
    /// knows: a server that was killed may have forgotten what its consumer had delivered.
    pub(super) fn is_another(&self, seq: u64, given_at: u64) -> bool {
        let delivered = self.rest.get("delivered");
        let position = delivered.and_then(|position| position["stream_seq"].as_u64());
        let created = self.rest.get("created").and_then(Value::as_str);
        let created = created.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let is_behind = position.is_some_and(|position| position < seq);
        let is_later = |created: OffsetDateTime| {
            u64::try_from(created.unix_timestamp()).is_ok_and(|created| created > given_at)
        };
        is_behind && created.is_some_and(is_later)
    }

    /// Between these two sequences lies what it has delivered and still waits for.
    pub(super) fn pending(&self) -> Option<(u64, u64)> {
        let at = |name: &str| self.rest.get(name)?["stream_seq"].as_u64();
        Some((at("ack_floor")?, at("delivered")?))
    }

    fn body(self) -> Map<String, Value> {
        let Self { config, mut rest } = self;
        let state: Map<String, Value> = STATE
            .iter()
            .filter_map(|name| rest.remove_entry(*name))
            .collect();
        let mut body = Map::new();
        body.insert("config".to_owned(), config);
        body.insert("state".to_owned(), state.into());
        body
    }
}

/// A filter that is empty is none.
fn filters_of(get: impl Fn(&str) -> Option<Value>) -> Vec<String> {
    let one = get("filter_subject");
    let several = get("filter_subjects");
    let several = several.iter().filter_map(Value::as_array).flatten();
    several
        .chain(&one)
        .filter_map(Value::as_str)
        .filter(|filter| !filter.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Api {
    /// What there is to know of a consumer.
    pub(super) async fn consumer_info(
        &self,
        stream: &str,
        consumer: &str,
        call: Call,
    ) -> Result<ConsumerInfo, Problem> {
        let verb = format!("CONSUMER.INFO.{stream}.{consumer}");
        self.read(&verb, &json!({}), call).await
    }
}

impl JetStream {
    /// Whether everything that a consumer with these filters delivers may be read.
    pub(super) async fn permit_filters(
        &self,
        stream: &Name,
        filters: &[String],
        call: Call,
    ) -> Result<(), Problem> {
        if !filters.is_empty() {
            return self.access.permit_all(filters);
        }
        let info = self.api.stream_info(stream, call).await?;
        self.access.permit_all(&info.subjects())
    }
}

/// `GET /v1/streams/{stream}/consumers/{consumer}`.
///
/// # Errors
/// Only what the contract says.
pub async fn get(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    asked.query(&PARAMS)?;
    let (stream, consumer) = (asked.stream()?, asked.consumer()?);
    let call = js.call(asked.deadline.at);
    let info = js
        .api
        .consumer_info(stream.as_str(), consumer.as_str(), call)
        .await?;
    js.permit_filters(&stream, &info.filters(), call).await?;
    Ok(answer(StatusCode::OK, &info.body()))
}

/// `PUT /v1/streams/{stream}/consumers/{consumer}`: creates it, or changes the one there is.
///
/// # Errors
/// Only what the contract says.
pub async fn put(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    js.may_manage()?;
    asked.query(&PARAMS)?;
    let (stream, consumer) = (asked.stream()?, asked.consumer()?);
    let call = js.call(asked.deadline.at);
    let mut config = ConfigJson::read(&asked.body())?;
    config.must_be("durable_name", consumer.as_str())?;
    config.must_be("name", consumer.as_str())?;
    is_pull(&config)?;
    let filters = filters_of(|name| config.get(name));
    js.permit_filters(&stream, &filters, call).await?;
    let status = match js
        .api
        .consumer_info(stream.as_str(), consumer.as_str(), call)
        .await
    {
        Ok(_) => StatusCode::OK,
        Err(problem) if problem.code() == Code::ConsumerNotFound => StatusCode::CREATED,
        Err(problem) => return Err(problem),
    };
    let verb = format!("CONSUMER.CREATE.{stream}.{consumer}");
    let request = json!({"stream_name": stream.as_str(), "config": config.members()});
    let info: ConsumerInfo = js.api.change(&verb, &request, call).await?;
    let ignored = config.ignored(&info.config);
    let mut body = info.body();
    if !ignored.is_empty() {
        body.insert("ignored".to_owned(), ignored.into());
    }
    Ok(answer(status, &body))
}

/// A push consumer would deliver to any subject that its creator names.
fn is_pull(config: &ConfigJson) -> Result<(), Problem> {
    match config.get("deliver_subject") {
        None => Ok(()),
        Some(subject) if subject == "" || subject.is_null() => Ok(()),
        Some(_) => Err(Problem::new(Code::InvalidBody)
            .detail("`deliver_subject` makes a push consumer; pull consumers are served here")),
    }
}

/// `DELETE /v1/streams/{stream}/consumers/{consumer}`.
///
/// # Errors
/// Only what the contract says.
pub async fn delete(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    js.may_manage()?;
    asked.query(&PARAMS)?;
    let (stream, consumer) = (asked.stream()?, asked.consumer()?);
    let call = js.call(asked.deadline.at);
    let verb = format!("CONSUMER.DELETE.{stream}.{consumer}");
    js.api.change::<Value>(&verb, &json!({}), call).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_found_in_both_members() {
        let filters = |config: Value| filters_of(|name| config.get(name).cloned());
        assert!(filters(json!({})).is_empty());
        assert!(filters(json!({"filter_subject": "", "filter_subjects": [""]})).is_empty());
        assert_eq!(filters(json!({"filter_subject": "a"})), ["a"]);
        assert_eq!(
            filters(json!({"filter_subject": "c", "filter_subjects": ["a", "b"]})),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn an_answer_has_the_configuration_and_how_far_it_is() {
        let info: ConsumerInfo = serde_json::from_value(json!({
            "type": "x", "stream_name": "S", "created": "2023-11-14T22:13:20.5Z", "config": {"durable_name": "c", "max_expires": 5},
            "delivered": {"consumer_seq": 3, "stream_seq": 9}, "num_pending": 1
        }))
        .unwrap();
        // 2023-11-14T22:13:20Z is 1_700_000_000.
        assert!(info.is_another(10, 1_699_999_999));
        assert!(
            !info.is_another(10, 1_700_000_000),
            "that is the same second"
        );
        assert!(
            !info.is_another(9, 1_699_999_999),
            "it has delivered that itself"
        );
        assert_eq!(info.expires_max(), Some(Duration::from_nanos(5)));
        let body = Value::from(info.body());
        assert_eq!(body["state"]["num_pending"], 1);
        assert_eq!(body["config"]["durable_name"], "c");
        assert!(body.get("stream_name").is_none());
    }
}
