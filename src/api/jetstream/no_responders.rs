//! Nobody listens: is there no stream, or only no leader?
//!
//! A stream's subjects and a consumer's ack subjects are subscribed by the leader alone. While a
//! leader is elected nobody answers there, exactly as if there were no stream. So natsway asks those
//! who know: the meta leader for streams, the consumer's stream for consumers.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use crate::nats::Call;
use crate::problem::{Code, Outcome, Problem};
use crate::subject::Subject;

#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

impl Api {
    /// The stream that holds a literal subject, if there is one.
    ///
    /// # Errors
    /// When JetStream does not say.
    pub async fn stream_of(&self, subject: &str, call: Call) -> Result<Option<String>, Problem> {
        let names: Names = self
            .read("STREAM.NAMES", &json!({"subject": subject}), call)
            .await?;
        Ok(names.streams.and_then(|streams| streams.into_iter().next()))
    }

    /// What to tell a publisher whose message nobody took; nothing was stored. 404 `no-stream` only
    /// when JetStream says so, else a problem that passes.
    pub async fn nobody_stored(&self, subject: &Subject, call: Call) -> Problem {
        match self.stream_of(subject.as_str(), call).await {
            Ok(None) => Problem::new(Code::NoStream),
            Ok(Some(_)) => Problem::new(Code::JetStreamUnavailable),
            Err(problem) if problem.code() == Code::NatsPermissionDenied => {
                Problem::new(Code::JetStreamUnavailable).detail(
                    "no stream took the message, and the NATS user may not ask \
                     `$JS.API.STREAM.NAMES` whether one holds the subject",
                )
            }
            Err(problem) if problem.http_status().as_u16() == 501 => problem,
            Err(problem) => problem.outcome(Outcome::NotSent),
        }
    }

    /// What to tell somebody whose pull or ack nobody took: 404 only when the stream says so.
    pub async fn nobody_consumes(&self, stream: &str, consumer: &str, call: Call) -> Problem {
        let verb = format!("CONSUMER.INFO.{stream}.{consumer}");
        match self.read::<Value>(&verb, &json!({}), call).await {
            Ok(_) => Problem::new(Code::JetStreamUnavailable),
            Err(problem) => problem,
        }
    }
}
