//! Publishing to a stream: `confirm=stream`.

use std::pin::pin;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::api::is_passing;
use super::backoff::Backoff;
use super::pub_ack::Answer;
use super::{Api, PubAck};
use crate::nats::{Call, Failure, Inbound, Outbound};
use crate::problem::{Code, Doing, Outcome, Problem};
use crate::subject::Subject;

/// The same message id is being stored for somebody else at this moment.
const DUPLICATE_IN_PROCESS: u64 = 10158;

/// After so much silence somebody should ask what became of the stream.
const SILENCE: Duration = Duration::from_secs(2);

impl Api {
    /// Publishes a message and waits until a stream has stored it. Tried again while a leader is
    /// elected, for nothing is stored then.
    ///
    /// # Errors
    /// That it was not stored, or that this is not known.
    pub async fn store(
        &self,
        subject: &Subject,
        message: &Outbound,
        expected_stream: Option<&str>,
        call: Call,
    ) -> Result<PubAck, Problem> {
        let reply = self.send(subject, message, call).await?;
        self.conclude(subject, message, reply, expected_stream, call)
            .await
    }

    /// The same for a message whose first attempt was made already, such as one of many in flight.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub async fn conclude(
        &self,
        subject: &Subject,
        message: &Outbound,
        first: Result<Inbound, Failure>,
        expected_stream: Option<&str>,
        call: Call,
    ) -> Result<PubAck, Problem> {
        let mut reply = first;
        let mut backoff = Backoff::until(call.deadline);
        loop {
            let problem = match reply {
                Ok(reply) => match Answer::read(&reply.payload, expected_stream)? {
                    Answer::Stored(ack) => return Ok(ack),
                    Answer::Refused(error) => {
                        let problem = Problem::from_jetstream(&error);
                        if error.err_code != DUPLICATE_IN_PROCESS && !is_passing(&problem) {
                            return Err(self.with_limit(subject, problem, call).await);
                        }
                        problem
                    }
                },
                Err(Failure::NoResponders) => {
                    let problem = self.nobody_stored(subject, call).await;
                    if !is_passing(&problem) {
                        return Err(problem);
                    }
                    problem
                }
                Err(failure) => return Err(Problem::from_failure(failure, Doing::Publish)),
            };
            if !backoff.pause().await {
                return Err(problem);
            }
            reply = self.send(subject, message, call).await?;
        }
    }

    /// Sends the message and waits for the reply. A stream that is deleted may take a message and never
    /// answer, and so does whoever else listens, so in a long silence JetStream is asked, once, whether
    /// there is a stream.
    async fn send(
        &self,
        subject: &Subject,
        message: &Outbound,
        call: Call,
    ) -> Result<Result<Inbound, Failure>, Problem> {
        let mut reply = pin!(self.nats().request(message.clone(), call));
        if let Ok(reply) = timeout(SILENCE, &mut reply).await {
            return Ok(reply.map(|reply| reply.message));
        }
        let asking = async {
            match self.stream_of(subject.as_str(), call).await {
                Ok(None) => (),
                Ok(Some(_)) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = &mut reply => Ok(reply.map(|reply| reply.message)),
            () = asking => Err(Problem::new(Code::NoStream)
                .detail("no stream holds the subject; others who listen may have received the message")
                .outcome(Outcome::Unknown)),
        }
    }

    /// JetStream does not say which limit a message broke; the stream does.
    async fn with_limit(&self, subject: &Subject, problem: Problem, call: Call) -> Problem {
        #[derive(Deserialize)]
        struct Info {
            config: Config,
        }
        #[derive(Deserialize)]
        struct Config {
            max_msg_size: i64,
        }
        if problem.code() != Code::PayloadTooLarge {
            return problem;
        }
        let Ok(Some(stream)) = self.stream_of(subject.as_str(), call).await else {
            return problem;
        };
        let verb = format!("STREAM.INFO.{stream}");
        match self.read::<Info>(&verb, &json!({}), call).await {
            Ok(info) if info.config.max_msg_size > 0 => {
                problem.limit(Value::from(info.config.max_msg_size))
            }
            _ => problem,
        }
    }
}
