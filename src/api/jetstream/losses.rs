//! Consumers whose pulls ended with the connection: most losses are the network's, some are the doing of
//! a message that nobody can be sent (see [`super::unreadable`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::JetStream;
use crate::nats::Call;
use crate::problem::{Code, Problem, Source};
use crate::subject::Name;

/// The cause is looked for once in so long: everybody who waits at a consumer sees the same loss.
const AGAIN: Duration = Duration::from_secs(2);
/// So long nobody tries a consumer that would end the connection again.
const CLOSED: Duration = Duration::from_secs(30);
/// How long a cause is looked for.
const LOOKING: Duration = Duration::from_secs(5);
/// More consumers than this are not watched.
const CONSUMERS_MAX: usize = 1024;

type Key = (Name, Name);

#[derive(Debug)]
struct Lost {
    looked: Instant,
    unreadable: Option<u64>,
}

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Losses(Mutex<HashMap<Key, Lost>>);

impl Losses {
    /// There was one; whether it is time to look for the cause.
    pub(super) fn note(&self, stream: &Name, consumer: &Name) -> bool {
        let mut all = self.0.lock();
        all.retain(|_, lost| lost.looked.elapsed() < CLOSED);
        let key = (stream.clone(), consumer.clone());
        let is_known = all
            .get(&key)
            .is_some_and(|lost| lost.looked.elapsed() < AGAIN);
        if is_known || all.len() >= CONSUMERS_MAX {
            return false;
        }
        let looked = Instant::now();
        let unreadable = None;
        all.insert(key, Lost { looked, unreadable });
        true
    }

    /// The cause was found.
    pub(super) fn found(&self, stream: &Name, consumer: &Name, seq: u64) {
        if let Some(lost) = self.0.lock().get_mut(&(stream.clone(), consumer.clone())) {
            lost.unreadable = Some(seq);
        }
    }

    /// The message because of which a consumer is better not asked at the moment.
    pub(super) fn cause(&self, stream: &Name, consumer: &Name) -> Option<u64> {
        let all = self.0.lock();
        if all.is_empty() {
            return None;
        }
        let lost = all.get(&(stream.clone(), consumer.clone()))?;
        lost.unreadable.filter(|_| lost.looked.elapsed() < CLOSED)
    }

    /// The cause is gone.
    pub(super) fn forget(&self, stream: &Name, consumer: &Name) {
        self.0.lock().remove(&(stream.clone(), consumer.clone()));
    }
}

impl JetStream {
    /// Refuses a consumer that would end the connection again, until the message is deleted or some
    /// time has passed.
    pub(super) async fn is_readable(
        &self,
        stream: &Name,
        consumer: &Name,
        call: Call,
    ) -> Result<(), Problem> {
        let Some(seq) = self.losses.cause(stream, consumer) else {
            return Ok(());
        };
        let next = self.api.next_stored(stream.as_str(), &[], seq - 1, call);
        match next.await {
            Ok(Some(next)) if next.seq == seq => Err(unreadable(consumer, seq)),
            Ok(_) => {
                self.losses.forget(stream, consumer);
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Looks for the cause of a loss, as soon as there is a connection again. Nobody waits for it: whoever
/// comes next is told.
pub(super) fn look_into(js: &Arc<JetStream>, stream: &Name, consumer: &Name) {
    if !js.losses.note(stream, consumer) {
        return;
    }
    let (owner, stream, consumer) = (Arc::clone(js), stream.clone(), consumer.clone());
    let _is_taken = js.janitor.run(async move {
        let call = Call {
            deadline: Instant::now() + LOOKING,
            wait: true,
        };
        let found = owner.api.unreadable_of(&stream, &consumer, call).await;
        if let Some(seq) = found {
            owner.losses.found(&stream, &consumer, seq);
        }
    });
}

/// What to tell whoever fetches from it.
pub(super) fn unreadable(consumer: &Name, seq: u64) -> Problem {
    Problem::new(Code::BadReply)
        .source(Source::Nats)
        .detail(format!(
            "message {seq}, which the consumer `{consumer}` is to deliver, has a subject or headers that \
             cannot be read, and ends every connection it is sent over; delete it from the stream"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_looked_into_once_and_a_cause_is_remembered_for_a_while() {
        let losses = Losses::default();
        let (s, c) = (Name::parse("S").unwrap(), Name::parse("c").unwrap());
        let note = || losses.note(&s, &c);
        assert_eq!([note(), note()], [true, false]);
        assert!(losses.note(&s, &s));
        assert_eq!(losses.cause(&s, &c), None);
        losses.found(&s, &c, 7);
        assert_eq!(losses.cause(&s, &c), Some(7));
        assert_eq!(losses.cause(&s, &s), None);
        tokio::time::advance(CLOSED).await;
        assert_eq!(losses.cause(&s, &c), None, "it may be tried again");
        assert!(note());
        losses.forget(&s, &c);
        assert!(note());
    }
}
