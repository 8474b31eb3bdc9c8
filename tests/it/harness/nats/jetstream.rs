//! JetStream by its API subjects, so that tests do not share a client library's view with natsway.

use std::time::Duration;

use async_nats::RequestError;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Nats;
use crate::harness::eventually::{SOON, eventually_some};

impl Nats {
    /// Calls `$JS.API.<verb>` and returns its answer, error or not.
    pub(crate) async fn js(&self, verb: &str, body: &Value) -> Value {
        let answer = self.try_js(verb, body).await;
        answer.unwrap_or_else(|error| panic!("$JS.API.{verb}: {error}"))
    }

    async fn try_js(&self, verb: &str, body: &Value) -> Result<Value, RequestError> {
        let client = self.client().await;
        let payload = serde_json::to_vec(body).expect("JSON");
        let reply = client.request(format!("$JS.API.{verb}"), payload.into());
        let payload = reply.await?.payload;
        Ok(serde_json::from_slice(&payload).expect("the JetStream API speaks JSON"))
    }

    /// Has a leader step down, as `STREAM.LEADER.STEPDOWN.<stream>` does: asks again until one says so, for
    /// while there is none nobody may answer.
    pub(crate) async fn step_down(&self, verb: &str) {
        let nothing = json!({});
        eventually_some(SOON, "a leader steps down", async || {
            let asked = timeout(Duration::from_secs(2), self.try_js(verb, &nothing));
            let answer = asked.await.ok()?.ok()?;
            (answer["success"] == true).then_some(())
        })
        .await;
    }

    /// Creates a stream in a file store; `more` adds to or replaces members of its configuration.
    pub(crate) async fn stream(&self, name: &str, subjects: &[&str], more: Value) -> Value {
        let mut config = json!({"name": name, "subjects": subjects, "storage": "file"});
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
        }
        let answer = eventually_some(SOON, "the stream is created", async || {
            // In a cluster that has just started a request may find nobody, or (10008) no leader.
            let verb = format!("STREAM.CREATE.{name}");
            let answer = self.try_js(&verb, &config).await.ok()?;
            (answer["error"]["err_code"] != 10008).then_some(answer)
        })
        .await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }

    /// The state of a stream: `messages`, `first_seq`, `last_seq`…
    pub(crate) async fn stream_state(&self, name: &str) -> Value {
        let answer = self.js(&format!("STREAM.INFO.{name}"), &json!({})).await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["state"].clone()
    }

    /// Creates a durable pull consumer with explicit acks.
    pub(crate) async fn consumer(&self, stream: &str, name: &str, more: Value) -> Value {
        let mut config =
            json!({"durable_name": name, "ack_policy": "explicit", "deliver_policy": "all"});
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
        }
        let body = json!({"stream_name": stream, "config": config});
        let answer = self
            .js(&format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), &body)
            .await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }

    /// What a consumer says of itself: `num_pending`, `num_ack_pending`…
    pub(crate) async fn consumer_info(&self, stream: &str, name: &str) -> Value {
        self.js(&format!("CONSUMER.INFO.{stream}.{name}"), &json!({}))
            .await
    }

    /// One stored message: `subject`, `seq`, `data` (base64), `hdrs` (base64).
    pub(crate) async fn stored(&self, stream: &str, seq: u64) -> Value {
        let answer = self
            .js(&format!("STREAM.MSG.GET.{stream}"), &json!({"seq": seq}))
            .await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["message"].clone()
    }
}

/// Messages on their way into a stream.
impl Nats {
    /// Stores one message and returns its sequence.
    pub(crate) async fn store(&self, subject: &str, payload: &str) -> u64 {
        self.store_many(subject, [payload.to_owned()]).await
    }

    /// Stores several in order and returns the last one's sequence.
    pub(crate) async fn store_many(
        &self,
        subject: &str,
        payloads: impl IntoIterator<Item = String>,
    ) -> u64 {
        let client = self.client().await;
        let mut last = 0;
        for payload in payloads {
            let reply = client.request(subject.to_owned(), payload.into()).await;
            let reply = reply.unwrap_or_else(|error| panic!("{subject}: {error}"));
            let ack: Value = serde_json::from_slice(&reply.payload).expect("a PubAck");
            last = ack["seq"].as_u64().unwrap_or_else(|| panic!("{ack}"));
        }
        last
    }
}
