//! Subscriptions, and what the server thinks of them.

use std::sync::atomic::Ordering;

use async_nats::Subject;
use tokio::time::Instant;

use super::Connection;
use crate::nats::Failure;
use crate::nats::events::Watched;
use crate::nats::refusals::Refusal;
use crate::nats::subscription::Subscription;

impl Connection {
    /// Subscribes; what happens to the subscription is told from the first moment on.
    pub(in crate::nats) async fn subscribe(
        &self,
        pattern: Subject,
        queue: Option<String>,
    ) -> Result<(Subscription, Watched), Failure> {
        // The id is not told but counted: subscriptions are made one after the other, and one counts
        // even where its caller leaves, since the library has counted it by then.
        let _one_at_a_time = self.subscribing.lock().await;
        let sid = self.subscriptions.fetch_add(1, Ordering::AcqRel) + 1;
        let watched = self.signals.watch(sid);
        let subscribed = match queue {
            None => self.client.subscribe(pattern).await,
            Some(group) => self.client.queue_subscribe(pattern, group).await,
        };
        let subscriber = subscribed.map_err(|_| Failure::Disconnected)?;
        let subscription = match self.channel.is_large() {
            true => Subscription::in_channel(subscriber),
            false => Subscription::in_backlog(&self.signals, sid, subscriber),
        };
        Ok((subscription, watched))
    }

    /// Waits until the server has handled everything before, be it by a fence or, where the user has
    /// no right to one, by an error that the server sends in order. Fails where an error may have been
    /// dropped since there were `events` of them.
    pub(in crate::nats) async fn settle(
        &self,
        events: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if self.rights.can_fence() {
            return self.fence(deadline).await;
        }
        let mut changes = self.signals.changed.subscribe();
        let subject = self.probe_subject();
        // Kept until the answer is here: an early UNSUB changes nothing, but costs a command.
        let mut refusal = Refusal::Publish(subject.to_string());
        let _refused = if self.rights.read {
            self.client
                .publish(subject.clone(), bytes::Bytes::new())
                .await
                .map_err(|_| Failure::Lost)?;
            None
        } else {
            refusal = Refusal::Subscription(subject.to_string(), None);
            Some(self.subscribe(subject.clone(), None).await?)
        };
        let answered = async {
            while !self.signals.refusals.take(&refusal) {
                tokio::select! {
                    changed = changes.changed() => changed.map_err(|_| Failure::Lost)?,
                    () = self.signals.closed.cancelled() => return Err(Failure::Lost),
                }
            }
            if self.signals.fences.may_have_dropped_since(events) {
                return Err(Failure::Lost);
            }
            Ok(())
        };
        tokio::time::timeout_at(deadline, answered)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// A subject of our own for one probe.
    pub(in crate::nats) fn probe_subject(&self) -> Subject {
        self.own_subject('p')
    }

    /// A subject below this connection's own.
    pub(super) fn own_subject(&self, kind: char) -> Subject {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        Subject::from(format!("{}.{kind}.{number}", self.inbox_root))
    }
}
