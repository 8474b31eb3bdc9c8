//! How lines go out over their lanes, and what is done while they cannot.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Upload, problem};
use crate::api::batch::lane::Lane;
use crate::api::batch::source::{Addressed, Numbered};
use crate::config::Confirm;
use crate::nats::{Failure, RunConfirm, bytes_in_queue};
use crate::problem::Problem;

/// How often a full send queue is tried again where nothing of ours is in it.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

impl Upload<'_> {
    /// The way of most lines: there is a lane, and room in its run, so nothing has to be waited for.
    /// What cannot go this way is given back.
    pub(super) fn join_at_once(&mut self, numbered: Numbered) -> Option<Numbered> {
        match numbered {
            Numbered {
                line,
                message: Ok(addressed),
            } if self.confirm != Confirm::Stream => self.join_run_at_once(line, addressed),
            other => Some(other),
        }
    }

    fn join_run_at_once(&mut self, line: u64, addressed: Addressed) -> Option<Numbered> {
        let Addressed { subject, message } = &addressed;
        let link = self.session.nats().link_for(subject.as_str());
        let weight = bytes_in_queue(message);
        match self.lanes.with_room(link, message, weight) {
            Some(run) => {
                run.push(line, addressed.message, weight);
                None
            }
            None => Some(Numbered {
                line,
                message: Ok(addressed),
            }),
        }
    }

    pub(super) async fn send(&mut self, line: u64, addressed: Addressed) -> Result<(), Problem> {
        let lane = match self.lane(addressed.subject.as_str()).await {
            Ok(lane) => lane,
            Err(failure) => {
                self.report.stop(problem(failure));
                return Err(problem(failure));
            }
        };
        let connection = &self.lanes[lane].connection;
        connection.check(&addressed.message).map_err(problem)?;
        match self.confirm {
            Confirm::Stream => self.send_for_stream(lane, line, addressed).await,
            Confirm::Server | Confirm::None => self.join_run(lane, line, addressed).await,
        }
    }

    async fn lane(&mut self, subject: &str) -> Result<usize, Failure> {
        let link = self.session.nats().link_for(subject);
        if let Some(lane) = self.lanes.known(link) {
            return Ok(lane);
        }
        let connection = link.connection(self.call()).await?;
        Ok(self.lanes.open(link, connection))
    }

    async fn join_run(
        &mut self,
        lane: usize,
        line: u64,
        addressed: Addressed,
    ) -> Result<(), Problem> {
        let weight = bytes_in_queue(&addressed.message);
        if !self.lanes[lane].run.fits(weight) {
            self.send_run(lane).await;
        }
        if self.report.is_stopped() {
            return Err(problem(Failure::NotSentInTime));
        }
        let Lane {
            run, connection, ..
        } = &mut self.lanes[lane];
        run.push(line, addressed.message, weight);
        // Where messages may be denied, each is on its own, so that it is known which one was.
        if connection.is_uncertain() {
            self.send_run(lane).await;
        }
        Ok(())
    }

    pub(super) async fn send_runs(&mut self) {
        for lane in self.lanes.all() {
            self.send_run(lane).await;
        }
    }

    /// Sends what a lane has gathered. What cannot be sent stays there, and the batch is stopped.
    async fn send_run(&mut self, lane: usize) {
        let confirm = match self.confirm {
            Confirm::None => RunConfirm::Flushed,
            Confirm::Server | Confirm::Stream => RunConfirm::Server,
        };
        self.make_room(self.lanes[lane].run.weight).await;
        while !self.report.is_stopped() {
            let Lane {
                connection, run, ..
            } = &mut self.lanes[lane];
            if run.messages.is_empty() {
                return;
            }
            let begun = match connection.keeps_half_free(run.messages.len(), run.weight) {
                true => connection.begin_run(&mut run.messages, run.weight, confirm),
                false => Err(Failure::BufferFull),
            };
            match begun {
                Ok(pending) => {
                    self.full_until = None;
                    return self.flight.run_sent(run, pending);
                }
                Err(failure) => self.cope(lane, failure).await,
            }
        }
    }

    async fn send_for_stream(
        &mut self,
        lane: usize,
        line: u64,
        addressed: Addressed,
    ) -> Result<(), Problem> {
        let weight = bytes_in_queue(&addressed.message);
        self.make_room(weight).await;
        while !self.report.is_stopped() {
            let connection = &self.lanes[lane].connection;
            let begun = match connection.keeps_half_free(1, weight) {
                true => connection.begin_request(addressed.message.clone()),
                false => Err(Failure::BufferFull),
            };
            match begun {
                Ok(reply) => {
                    self.full_until = None;
                    self.flight.stored_soon(line, addressed, weight, reply);
                    return Ok(());
                }
                Err(failure @ (Failure::BufferFull | Failure::Disconnected)) => {
                    self.cope(lane, failure).await;
                }
                Err(failure) => return Err(problem(failure)),
            }
        }
        Err(problem(Failure::NotSentInTime))
    }

    async fn make_room(&mut self, weight: usize) {
        while !self.report.is_stopped() && !self.flight.has_room(weight) {
            self.next_known().await;
        }
    }

    /// Nothing was sent: does what lets it be sent, or stops.
    async fn cope(&mut self, lane: usize, failure: Failure) {
        match failure {
            Failure::BufferFull if !self.flight.is_empty() => self.next_known().await,
            Failure::BufferFull => self.wait_for_others().await,
            Failure::Disconnected => self.reconnect(lane).await,
            failure => self.report.stop(problem(failure)),
        }
    }

    async fn wait_for_others(&mut self) {
        let now = Instant::now();
        if now >= *self.full_until.get_or_insert(now + self.timeout) {
            return self.report.stop(problem(Failure::BufferFull));
        }
        sleep(FULL_QUEUE_PAUSE).await;
    }

    /// Goes on over another connection, once it is known that all that went over the last one
    /// arrived.
    async fn reconnect(&mut self, lane: usize) {
        while !self.flight.is_empty() && !self.report.is_stopped() {
            self.next_known().await;
        }
        if self.report.is_stopped() {
            return;
        }
        match self.lanes[lane].link.connection(self.call()).await {
            Ok(connection) => self.lanes[lane].connection = connection,
            Err(failure) => self.report.stop(problem(failure)),
        }
    }
}
