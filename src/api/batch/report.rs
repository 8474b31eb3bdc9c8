//! What became of the lines, and the answer that says so.

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::answer;
use crate::api::jetstream::PubAck;
use crate::config::Confirm;
use crate::problem::{Code, Outcome, Problem, Source};

/// How many failed lines are listed one by one.
const LISTED_MAX: usize = 100;
/// How many streams are told apart. Only a broken or hostile responder names more.
const STREAMS_MAX: usize = 256;

#[derive(Debug)]
struct InStream {
    first_seq: u64,
    last_seq: u64,
    duplicates: u64,
}

/// How bad it is that a line failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Badness {
    /// Its client can correct it.
    Clients,
    /// It was not to be published now.
    Ours,
    /// Nobody knows whether it was.
    Unknown,
}

impl Badness {
    fn of(problem: &Problem) -> Self {
        match problem.message_outcome() {
            Outcome::Unknown => Self::Unknown,
            _ if problem.http_status().as_u16() < 500 => Self::Clients,
            _ => Self::Ours,
        }
    }
}

/// Counts as the lines' outcomes come in.
#[derive(Debug)]
pub(super) struct Report {
    confirm: Confirm,
    published: u64,
    streams: BTreeMap<String, InStream>,
    failed: Vec<Value>,
    failed_total: u64,
    /// Whether each failed line is the client's to correct.
    is_clients: bool,
    /// Whether the same batch may be sent again as it is.
    is_retryable: bool,
    /// Whether NATS has refused some line.
    is_rejected: bool,
    /// Whose the worst failed line is, and how bad that is.
    worst: Option<(Badness, Source)>,
    /// Whether some line may have arrived and may not.
    is_unknown: bool,
    unknown: Option<(u64, u64)>,
    /// Why no more lines were sent.
    stopped: Option<Problem>,
    /// What stopped it, where nothing else can be said.
    alone: Option<Problem>,
}

impl Report {
    pub(super) const fn new(confirm: Confirm) -> Self {
        Self {
            confirm,
            published: 0,
            streams: BTreeMap::new(),
            failed: Vec::new(),
            failed_total: 0,
            is_clients: true,
            is_retryable: true,
            is_rejected: false,
            worst: None,
            is_unknown: false,
            unknown: None,
            stopped: None,
            alone: None,
        }
    }

    /// Whether no more lines are sent.
    pub(super) const fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// How many lines did what `confirm` says.
    pub(super) const fn lines_published(&self) -> u64 {
        self.published
    }

    /// Why no more lines were sent, where that is so.
    pub(super) const fn stopped_by(&self) -> Option<&Problem> {
        self.stopped.as_ref()
    }

    /// So many lines did what `confirm` says.
    pub(super) const fn published(&mut self, lines: u64) {
        self.published += lines;
    }

    /// A stream has stored a line.
    pub(super) fn stored(&mut self, ack: PubAck) {
        self.published += 1;
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&ack.stream) {
            return;
        }
        let seq = ack.seq;
        let entry = self.streams.entry(ack.stream).or_insert(InStream {
            first_seq: seq,
            last_seq: seq,
            duplicates: 0,
        });
        entry.first_seq = entry.first_seq.min(seq);
        entry.last_seq = entry.last_seq.max(seq);
        entry.duplicates += u64::from(ack.duplicate);
    }

    /// A line failed.
    pub(super) fn failed(&mut self, line: u64, problem: &Problem) {
        self.failed_total += 1;
        self.is_clients &= problem.http_status().as_u16() < 500;
        self.is_retryable &= problem.is_retryable();
        self.is_rejected |= problem.message_outcome() == Outcome::Rejected;
        let badness = Badness::of(problem);
        if self.worst.is_none_or(|(worst, _)| badness > worst) {
            self.worst = Some((badness, problem.failed_by()));
        }
        self.is_unknown |= problem.message_outcome() == Outcome::Unknown;
        if self.failed.len() < LISTED_MAX {
            self.failed.push(json!({
                "line": line,
                "code": problem.code().as_str(),
                "detail": problem.sentence(),
                "outcome": problem.message_outcome().as_str(),
                "retryable": problem.is_retryable(),
            }));
        }
    }

    /// Lines may have arrived and may not.
    pub(super) fn unknown(&mut self, lines: &[u64]) {
        self.is_unknown = true;
        for line in lines {
            let (from, to) = self.unknown.unwrap_or((*line, *line));
            self.unknown = Some((from.min(*line), to.max(*line)));
        }
    }

    /// No more lines are sent, because of this.
    pub(super) fn stop(&mut self, problem: Problem) {
        if self.stopped.is_some() {
            return;
        }
        let nothing_else = self.published == 0 && self.failed_total == 0 && !self.is_unknown;
        self.alone = nothing_else.then(|| problem.clone());
        self.stopped = Some(problem);
    }

    /// The answer.
    pub(super) fn answer(self, lines_read: u64) -> Result<Response, Problem> {
        let is_alone = self.published == 0 && !self.is_unknown;
        if let Some(problem) = self.alone.clone().filter(|_| is_alone) {
            return Err(problem);
        }
        if self.failed_total == 0 && !self.is_unknown && self.stopped.is_none() {
            return Ok(answer::json(self.success().to_string()));
        }
        Err(self.incomplete(lines_read))
    }

    fn success(&self) -> Value {
        let mut body = json!({"published": self.published});
        if self.confirm == Confirm::Stream {
            body["streams"] = self.streams();
        }
        body
    }

    fn streams(&self) -> Value {
        let entry = |(name, stream): (&String, &InStream)| {
            let InStream {
                first_seq,
                last_seq,
                duplicates,
            } = stream;
            let value = json!({
                "first_seq": first_seq, "last_seq": last_seq, "duplicates": duplicates,
            });
            (name.clone(), value)
        };
        Value::Object(self.streams.iter().map(entry).collect::<Map<_, _>>())
    }

    fn incomplete(self, lines_read: u64) -> Problem {
        let status = match (self.is_unknown, self.is_clients) {
            (true, _) => StatusCode::GATEWAY_TIMEOUT,
            (false, true) => StatusCode::UNPROCESSABLE_ENTITY,
            (false, false) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let outcome = match (self.is_unknown, self.is_rejected) {
            (true, _) => Outcome::Unknown,
            (false, true) => Outcome::Rejected,
            (false, false) if self.published == 0 => Outcome::NotSent,
            // Nothing was refused, and a part of it did arrive.
            (false, false) => Outcome::Unknown,
        };
        let of_line = self.worst.map(|(_, source)| source);
        let source = self.stopped.as_ref().map(Problem::failed_by).or(of_line);
        let retryable = outcome == Outcome::NotSent && self.is_retryable;
        let mut problem = Problem::new(Code::BatchIncomplete)
            .status(status)
            .source(source.unwrap_or(Source::Client))
            .outcome(outcome)
            .retryable(retryable)
            .member("published", self.published)
            .member("failed_total", self.failed_total);
        if self.confirm == Confirm::Stream {
            problem = problem.member("streams", self.streams());
        }
        if let Some((from, to)) = self.unknown {
            problem = problem.member("unknown", json!({"from_line": from, "to_line": to}));
        }
        if let Some(stopped) = &self.stopped {
            // Nothing after this line was sent.
            problem = problem
                .member("stopped_after_line", lines_read)
                .detail(format!("it was given up: {}", stopped.sentence()));
        }
        problem.member("failed", self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(stream: &str, seq: u64, duplicate: bool) -> PubAck {
        PubAck {
            stream: stream.to_owned(),
            seq,
            duplicate,
            domain: None,
        }
    }

    fn problem(report: Report) -> (u16, Value) {
        let problem = report.answer(9).unwrap_err();
        (problem.http_status().as_u16(), problem.to_json(None))
    }

    #[test]
    fn sequences_are_told_per_stream() {
        let mut report = Report::new(Confirm::Stream);
        for ack in [ack("A", 7, false), ack("B", 1, false), ack("A", 2, true)] {
            report.stored(ack);
        }
        let expected = json!({"published": 3, "streams": {
            "A": {"first_seq": 2, "last_seq": 7, "duplicates": 1},
            "B": {"first_seq": 1, "last_seq": 1, "duplicates": 0},
        }});
        assert_eq!(report.success(), expected);
        assert_eq!(
            Report::new(Confirm::Server).success(),
            json!({"published": 0})
        );
    }

    #[test]
    fn the_status_is_that_of_the_worst_line() {
        let mut report = Report::new(Confirm::Server);
        report.failed(1, &Problem::new(Code::InvalidBody));
        let (status, body) = problem(report);
        assert_eq!((status, &body["outcome"]), (422, &json!("not_sent")));
        assert_eq!(body["retryable"], false);

        let mut report = Report::new(Confirm::Server);
        report.published(1);
        report.failed(2, &Problem::new(Code::InvalidBody));
        report.failed(3, &Problem::new(Code::Overloaded));
        let (status, body) = problem(report);
        // Line 1 is published, and nobody has refused the others.
        assert_eq!((status, &body["outcome"]), (503, &json!("unknown")));
        assert_eq!(
            (&body["source"], &body["retryable"]),
            (&json!("bridge"), &json!(false))
        );

        let mut report = Report::new(Confirm::Server);
        report.published(1);
        report.failed(2, &Problem::new(Code::NatsPermissionDenied));
        report.failed(3, &Problem::new(Code::InvalidBody));
        let (status, body) = problem(report);
        assert_eq!((status, &body["outcome"]), (422, &json!("rejected")));
        assert_eq!(body["source"], "nats");

        let mut report = Report::new(Confirm::Stream);
        report.failed(1, &Problem::new(Code::Overloaded));
        report.unknown(&[5, 7, 6]);
        let (status, body) = problem(report);
        assert_eq!((status, &body["outcome"]), (504, &json!("unknown")));
        assert_eq!(body["unknown"], json!({"from_line": 5, "to_line": 7}));
        assert_eq!(body["retryable"], false);
    }

    #[test]
    fn a_hundred_failures_are_listed_and_all_are_counted() {
        let mut report = Report::new(Confirm::Server);
        for line in 1..=250 {
            report.failed(line, &Problem::new(Code::InvalidBody));
        }
        let (_, body) = problem(report);
        assert_eq!(body["failed"].as_array().map(Vec::len), Some(100));
        assert_eq!(body["failed_total"], 250);
    }

    #[test]
    fn what_stops_a_batch_before_it_began_is_the_answer_itself() {
        let mut report = Report::new(Confirm::Server);
        report.stop(Problem::new(Code::NatsDisconnected));
        report.failed(1, &Problem::new(Code::NatsDisconnected));
        let (status, body) = problem(report);
        assert_eq!((status, &body["code"]), (503, &json!("nats-disconnected")));

        let mut report = Report::new(Confirm::Server);
        report.published(1);
        report.stop(Problem::new(Code::NatsDisconnected));
        report.failed(2, &Problem::new(Code::NatsDisconnected));
        let (status, body) = problem(report);
        assert_eq!((status, &body["code"]), (503, &json!("batch-incomplete")));
        assert_eq!(body["stopped_after_line"], 9);
        assert_eq!(
            (&body["source"], &body["outcome"]),
            (&json!("nats"), &json!("unknown"))
        );
    }
}
