//! Responders that always say the same.

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Nats, round_trip};

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
