//! One batch on its way: lines go out over their subjects' links, their outcomes come back in order,
//! and reading waits while too much is under way.

mod sending;

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::CONNECTION;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::flight::{Flight, Outcome, Sent};
use super::lane::Lanes;
use super::report::Report;
use super::source::{Numbered, Source};
use crate::api::jetstream::Api;
use crate::api::session::Session;
use crate::config::Confirm;
use crate::layers::body::problem_of;
use crate::nats::{Call, Failure};
use crate::problem::{Doing, Problem};
use crate::subject::Subject;

/// The batch.
pub(super) struct Upload<'b> {
    pub(super) session: &'b Session,
    pub(super) jetstream: &'b Api,
    confirm: Confirm,
    /// The deadline for progress.
    timeout: Duration,
    lanes: Lanes,
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
            lanes: Lanes::default(),
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

    async fn take(&mut self, Numbered { line, message }: Numbered) {
        let sent = match message {
            Ok(addressed) => self.send(line, addressed).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = sent {
            self.report.failed(line, &problem);
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
        for line in self.lanes.unsent() {
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
