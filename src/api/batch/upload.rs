//! One batch on its way: lines go out over their subjects' links, their outcomes come back in order,
//! and reading waits while too much is under way.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::CONNECTION;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};

use super::flight::{Flight, Outcome, Sent};
use super::lane::{Lane, Run, weight};
use super::report::Report;
use super::source::{Addressed, Numbered, Source};
use crate::api::jetstream::Api;
use crate::api::session::Session;
use crate::config::Confirm;
use crate::layers::body::problem_of;
use crate::nats::{Call, Failure, Link, RunConfirm};
use crate::problem::{Doing, Problem};
use crate::subject::Subject;

/// How often a full send queue is tried again where nothing of ours is in it.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// The batch.
pub(super) struct Upload<'b> {
    pub(super) session: &'b Session,
    pub(super) jetstream: &'b Api,
    confirm: Confirm,
    /// The deadline for progress.
    timeout: Duration,
    lanes: Vec<Lane>,
    pub(super) flight: Flight,
    pub(super) report: Report,
    /// Subjects of which JetStream said that no stream holds them.
    pub(super) unheld: HashSet<Subject>,
    /// Until when a full send queue is waited for.
    full_until: Option<Instant>,
}

impl<'b> Upload<'b> {
    pub(super) fn new(
        session: &'b Session,
        jetstream: &'b Api,
        confirm: Confirm,
        timeout: Duration,
    ) -> Self {
        Self {
            session,
            jetstream,
            confirm,
            timeout,
            lanes: Vec::new(),
            flight: Flight::new(confirm, timeout),
            report: Report::new(confirm),
            unheld: HashSet::new(),
            full_until: None,
        }
    }

    /// Publishes the lines of a body, and says what became of them.
    pub(super) async fn run(mut self, mut source: Source, mut body: Body) -> Response {
        let broken = self.read(&mut source, &mut body).await.err();
        if broken.is_none()
            && !self.report.is_stopped()
            && let Some(last) = source.finish(self.session)
        {
            self.take(last).await;
        }
        self.land().await;
        let lines = source.lines_read();
        if let Some(problem) = broken {
            // Where a body breaks off nobody knows whether its last line was whole.
            self.report.stop(problem.clone());
            self.report.failed(lines + 1, &problem);
        }
        source.trace.end(&self.report);
        let is_cut_short = self.report.is_stopped();
        let mut response = self.report.answer(lines).into_response();
        if is_cut_short {
            // HTTP/1.1 cannot skip the rest of a body; without this word a client finds out by an
            // error in its next request. HTTP/2 can, and drops the word.
            const CLOSE: HeaderValue = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        response
    }

    async fn read(&mut self, source: &mut Source, body: &mut Body) -> Result<(), Problem> {
        loop {
            while let Some(numbered) = source.next(self.session) {
                let Some(numbered) = self.join_at_once(numbered) else {
                    continue;
                };
                self.take(numbered).await;
                if self.report.is_stopped() {
                    return Ok(());
                }
            }
            match self.next_piece(body).await? {
                Some(piece) => source.push(piece),
                None => return Ok(()),
            }
        }
    }

    /// The next piece of the body. While the client lets wait, what was read is sent, and outcomes
    /// are taken note of.
    async fn next_piece(&mut self, body: &mut Body) -> Result<Option<Bytes>, Problem> {
        if let Some(piece) = next_data(body).now_or_never() {
            return piece;
        }
        self.send_runs().await;
        while !self.report.is_stopped() {
            let known = tokio::select! {
                biased;
                piece = next_data(body) => return piece,
                known = self.flight.oldest() => known,
            };
            self.account(known).await;
        }
        Ok(None)
    }

    /// The way of most lines: there is a lane, and room in its run, so nothing has to be waited for.
    /// What cannot go this way is given back.
    fn join_at_once(&mut self, numbered: Numbered) -> Option<Numbered> {
        let lane = match &numbered.message {
            Ok(addressed) if self.confirm != Confirm::Stream => self.lane_with_room(addressed),
            _ => None,
        };
        match (lane, numbered.message) {
            (Some(lane), Ok(Addressed { message, .. })) => {
                self.lanes[lane].run.push(numbered.line, message);
                None
            }
            (_, message) => Some(Numbered {
                line: numbered.line,
                message,
            }),
        }
    }

    fn lane_with_room(&self, Addressed { subject, message }: &Addressed) -> Option<usize> {
        let index = self.known_lane(self.session.nats().link_for(subject.as_str()))?;
        let Lane {
            connection, run, ..
        } = &self.lanes[index];
        let joins = run.fits(weight(message))
            && !connection.is_uncertain()
            && connection.check(message).is_ok();
        joins.then_some(index)
    }

    fn known_lane(&self, link: &Arc<Link>) -> Option<usize> {
        self.lanes
            .iter()
            .position(|lane| Arc::ptr_eq(&lane.link, link))
    }

    async fn take(&mut self, Numbered { line, message }: Numbered) {
        let sent = match message {
            Ok(addressed) => self.send(line, addressed).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = sent {
            self.report.failed(line, &problem);
        }
    }

    async fn send(&mut self, line: u64, addressed: Addressed) -> Result<(), Problem> {
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
        if let Some(lane) = self.known_lane(link) {
            return Ok(lane);
        }
        let connection = link.connection(self.call()).await?;
        self.lanes.push(Lane {
            link: Arc::clone(link),
            connection,
            run: Run::default(),
        });
        Ok(self.lanes.len() - 1)
    }

    async fn join_run(
        &mut self,
        lane: usize,
        line: u64,
        addressed: Addressed,
    ) -> Result<(), Problem> {
        if !self.lanes[lane].run.fits(weight(&addressed.message)) {
            self.send_run(lane).await;
        }
        if self.report.is_stopped() {
            return Err(problem(Failure::NotSentInTime));
        }
        let Lane {
            run, connection, ..
        } = &mut self.lanes[lane];
        run.push(line, addressed.message);
        // Where messages may be denied, each is on its own, so that it is known which one was.
        if connection.is_uncertain() {
            self.send_run(lane).await;
        }
        Ok(())
    }

    async fn send_runs(&mut self) {
        for lane in 0..self.lanes.len() {
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
                true => connection.begin_run(run.messages.clone(), confirm),
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
        let weight = weight(&addressed.message);
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

    /// Sends the rest and waits for all outcomes; once stopped, only those that are known already.
    async fn land(&mut self) {
        self.send_runs().await;
        while !self.flight.is_empty() && !self.report.is_stopped() {
            self.next_known().await;
        }
        while let Some(known) = self.flight.give_up().await {
            self.account(known).await;
        }
        let left = self
            .lanes
            .iter_mut()
            .map(|lane| std::mem::take(&mut lane.run));
        for line in left.flat_map(|run| run.lines) {
            self.report.failed(line, &problem(Failure::NotSentInTime));
        }
    }

    async fn next_known(&mut self) {
        let known = self.flight.oldest().await;
        self.account(known).await;
    }

    pub(super) async fn account(&mut self, (sent, outcome): (Sent, Outcome)) {
        match sent {
            Sent::Run(lines) => match outcome {
                Ok(_) => self.report.published(lines.len() as u64),
                Err(failure) => self.lost(&lines, failure),
            },
            Sent::ForStream(line, addressed) => self.answered(line, addressed, outcome).await,
        }
    }

    /// Lines that were not confirmed, by what their connection says.
    pub(super) fn lost(&mut self, lines: &[u64], failure: Failure) {
        let problem = problem(failure);
        match (failure, lines) {
            (Failure::Disconnected | Failure::NotSentInTime, lines) => {
                self.report.stop(problem.clone());
                for line in lines {
                    self.report.failed(*line, &problem);
                }
            }
            (Failure::PermissionDenied | Failure::PayloadTooLarge { .. }, [line]) => {
                self.report.failed(*line, &problem);
            }
            (_, lines) => {
                self.report.stop(problem);
                self.report.unknown(lines);
            }
        }
    }

    /// A call that begins now.
    pub(super) fn call(&self) -> Call {
        self.session.call(Instant::now() + self.timeout)
    }
}

pub(super) fn problem(failure: Failure) -> Problem {
    let problem = Problem::from_failure(failure, Doing::Publish);
    match failure {
        Failure::PayloadTooLarge { .. } => problem.detail(failure.to_string()),
        _ => problem,
    }
}

async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        // Trailers mean nothing to messages.
        if let Ok(data) = frame.map_err(problem_of)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
