//! `/v1/streams`: list, look at, create or change, delete and purge streams.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::json as answer;
use super::asked::Asked;
use super::config_json::ConfigJson;
use super::{Api, JetStream};
use crate::api::query::Params;
use crate::nats::Call;
use crate::problem::{Code, Problem};
use crate::subject::Name;

static PARAMS: LazyLock<Params> = LazyLock::new(|| Params::built_in(&["timeout"]));

/// What the API says of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: Value,
    pub(super) state: Value,
}

impl StreamInfo {
    pub(super) fn subjects(&self) -> Vec<String> {
        let subjects = self.config["subjects"].as_array();
        let texts = subjects.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }
}

#[derive(Deserialize)]
struct Page {
    total: usize,
    #[serde(default)]
    streams: Option<Vec<StreamInfo>>,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

impl Api {
    /// What there is to know of a stream.
    pub(super) async fn stream_info(
        &self,
        stream: &Name,
        call: Call,
    ) -> Result<StreamInfo, Problem> {
        self.read(&format!("STREAM.INFO.{stream}"), &json!({}), call)
            .await
    }
}

/// `GET /v1/streams`.
///
/// # Errors
/// Only what the contract says.
pub async fn list(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    asked.query(&PARAMS)?;
    let call = js.call(asked.deadline.at);
    let mut streams = Vec::new();
    let mut offset = 0;
    loop {
        let page: Page = js
            .api
            .read("STREAM.LIST", &json!({"offset": offset}), call)
            .await?;
        let found = page.streams.unwrap_or_default();
        offset += found.len();
        let is_last = found.is_empty() || offset >= page.total;
        streams.extend(found.iter().filter_map(|info| {
            let name = info.config["name"].as_str()?;
            let is_shown = js.access.shows(name, &info.subjects());
            is_shown.then(|| json!({"name": name, "state": info.state}))
        }));
        if is_last {
            return Ok(answer(StatusCode::OK, &json!({"streams": streams})));
        }
    }
}

/// `GET /v1/streams/{stream}`.
///
/// # Errors
/// Only what the contract says.
pub async fn get(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    asked.query(&PARAMS)?;
    let stream = asked.stream()?;
    let info = js
        .api
        .stream_info(&stream, js.call(asked.deadline.at))
        .await?;
    if !js.access.shows(stream.as_str(), &info.subjects()) {
        return Err(Problem::new(Code::SubjectNotAllowed));
    }
    let body = json!({"config": info.config, "state": info.state});
    Ok(answer(StatusCode::OK, &body))
}

/// `PUT /v1/streams/{stream}`: creates it, or changes the one there is.
///
/// # Errors
/// Only what the contract says.
pub async fn put(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    js.may_manage()?;
    asked.query(&PARAMS)?;
    let stream = asked.stream()?;
    let call = js.call(asked.deadline.at);
    let mut config = ConfigJson::read(&asked.body())?;
    config.must_be("name", stream.as_str())?;
    let (status, info) = create_or_update(&js.api, &stream, &config, call).await?;
    let mut body = Map::new();
    let ignored = config.ignored(&info.config);
    body.insert("config".to_owned(), info.config);
    body.insert("state".to_owned(), info.state);
    if !ignored.is_empty() {
        body.insert("ignored".to_owned(), ignored.into());
    }
    Ok(answer(status, &body))
}

async fn create_or_update(
    api: &Api,
    stream: &Name,
    config: &ConfigJson,
    call: Call,
) -> Result<(StatusCode, StreamInfo), Problem> {
    let (create, update) = (
        format!("STREAM.CREATE.{stream}"),
        format!("STREAM.UPDATE.{stream}"),
    );
    match api.stream_info(stream, call).await {
        Ok(_) => match api.change(&update, config.members(), call).await {
            // Somebody deleted it in between.
            Err(problem) if problem.code() == Code::StreamNotFound => {}
            updated => return Ok((StatusCode::OK, updated?)),
        },
        Err(problem) if problem.code() == Code::StreamNotFound => {}
        Err(problem) => return Err(problem),
    }
    let created = api.change(&create, config.members(), call).await?;
    Ok((StatusCode::CREATED, created))
}

/// `DELETE /v1/streams/{stream}`.
///
/// # Errors
/// Only what the contract says.
pub async fn delete(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    js.may_manage()?;
    asked.query(&PARAMS)?;
    let stream = asked.stream()?;
    let call = js.call(asked.deadline.at);
    js.api
        .change::<Value>(&format!("STREAM.DELETE.{stream}"), &json!({}), call)
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/streams/{stream}/purge`.
///
/// # Errors
/// Only what the contract says.
pub async fn purge(State(js): State<Arc<JetStream>>, asked: Asked) -> Result<Response, Problem> {
    js.may_manage()?;
    asked.query(&PARAMS)?;
    let stream = asked.stream()?;
    let call = js.call(asked.deadline.at);
    let Purged { purged } = js
        .api
        .change(&format!("STREAM.PURGE.{stream}"), &json!({}), call)
        .await?;
    Ok(answer(StatusCode::OK, &json!({"purged": purged})))
}
