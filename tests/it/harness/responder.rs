//! Responders: those that always say the same, and one that answers when the test says so.

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Nats, SOON, round_trip, within};

/// Answers each request to `subject` from now on.
pub(crate) async fn respond(nats: &Nats, subject: &'static str, answer: impl Into<Bytes>) {
    let client = nats.client().await;
    let requests = client.subscribe(subject).await.expect("subscribed");
    round_trip(&client).await;
    answer_all(client, requests, answer);
}

/// Answers each request that comes to a subscription, also what waits there.
pub(crate) fn answer_all(client: Client, mut requests: Subscriber, answer: impl Into<Bytes>) {
    let answer = answer.into();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.expect("a request");
            client.publish(reply, answer.clone()).await.expect("sent");
        }
    });
}

/// Holds each request until the test answers it.
pub(crate) struct Responder {
    client: Client,
    requests: Subscriber,
}

impl Responder {
    /// Listens to `subject` from now on.
    pub(crate) async fn start(nats: &Nats, subject: &'static str) -> Self {
        let client = nats.client().await;
        let requests = client.subscribe(subject).await.expect("subscribed");
        round_trip(&client).await;
        Self { client, requests }
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Message {
        let next = self.requests.next();
        within(SOON, "a request", next).await.expect("subscribed")
    }

    /// Answers one; the server has the reply when this returns.
    pub(crate) async fn answer(&self, request: Message, answer: impl Into<Bytes>) {
        let reply = request.reply.expect("a request");
        let sent = self.client.publish(reply, answer.into());
        sent.await.expect("sent");
        round_trip(&self.client).await;
    }

    /// Answers one as a service that cannot do what it is asked.
    pub(crate) async fn fail(&self, request: Message) {
        let reply = request.reply.expect("a request");
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error-Code", "409");
        headers.insert("Nats-Service-Error", "sold out");
        let sent = self
            .client
            .publish_with_headers(reply, headers, Bytes::new());
        sent.await.expect("sent");
        round_trip(&self.client).await;
    }
}
