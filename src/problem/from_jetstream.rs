//! What an error of JetStream's API means to a caller: the one table from `err_code` to code.
//!
//! The statuses that JetStream itself gives mislead: a failed precondition is 400 there, a full
//! stream 503, an election 500. What is not in the table is 502 `nats-error` with its `err_code`.

use serde::Deserialize;

use super::{Code, Outcome, Problem};

/// An error as JetStream's API writes it, in a PubAck and in every other answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JetStreamError {
    /// A status in the manner of HTTP.
    pub code: u16,
    /// JetStream's own number, from 10001; 0 where the server gave none.
    pub err_code: u64,
    /// JetStream's sentence.
    pub description: String,
}

impl Problem {
    /// The problem that an error of JetStream's API is.
    #[must_use]
    pub fn from_jetstream(error: &JetStreamError) -> Self {
        let JetStreamError {
            err_code,
            description,
            ..
        } = error;
        let code = match (err_code, error.code) {
            // Such as `raft: not leader`: the message was not even proposed to the stream's peers.
            (0, 503) => Code::JetStreamUnavailable,
            _ => code_of(*err_code, description),
        };
        let problem = Self::new(code).nats(*err_code, description);
        match code {
            Code::JetStreamUnavailable => problem,
            Code::WrongLastSequence => with_current(problem, description),
            Code::InvalidBody | Code::InvalidParameter | Code::Conflict | Code::NatsError => {
                problem
                    .detail(format!("JetStream says: {description}"))
                    .outcome(Outcome::Rejected)
            }
            Code::NotSupported => problem
                .detail("the NATS server's JetStream is too old for what was asked")
                .outcome(Outcome::Rejected),
            _ => problem.outcome(Outcome::Rejected),
        }
    }
}

/// `wrong last sequence: 41` says where the stream is; a server under load says only the first half.
fn with_current(problem: Problem, description: &str) -> Problem {
    let current = description
        .rsplit_once(": ")
        .and_then(|(_, number)| number.trim().parse::<u64>().ok());
    let problem = problem.outcome(Outcome::Rejected);
    match current {
        Some(current) => problem.current(current),
        None => problem,
    }
}

const fn is_in(err_code: u64, list: &[u64]) -> bool {
    let mut at = 0;
    while at < list.len() {
        if list[at] == err_code {
            return true;
        }
        at += 1;
    }
    false
}

/// Elections, restarts, too much at once: it passes, and nothing was stored.
const PASSING: &[u64] = &[
    10004, 10006, 10007, 10008, 10009, 10063, 10118, 10119, 10163, 10167, 10194, 10195, 10210,
    10211,
];

/// What was asked for does not go together with what is there.
const CONFLICTS: &[u64] = &[
    10005, 10010, 10012, 10013, 10026, 10027, 10036, 10040, 10044, 10055, 10058, 10061, 10065,
    10074, 10099, 10100, 10105, 10106, 10109, 10120, 10123, 10124, 10129, 10148, 10158, 10166,
    10168, 10172, 10174, 10188, 10201, 10202, 10205, 10208, 10225, 10226,
];

fn code_of(err_code: u64, description: &str) -> Code {
    match err_code {
        10014 | 10149 => Code::ConsumerNotFound,
        10037 | 10043 => Code::MessageNotFound,
        10059 => Code::StreamNotFound,
        10035 | 10039 | 10076 => Code::JetStreamNotEnabled,
        10054 => Code::PayloadTooLarge,
        10060 => Code::WrongStream,
        10070 | 10071 | 10164 | 10180 => Code::WrongLastSequence,
        10097 => Code::HeadersTooLarge,
        10165 => Code::InvalidParameter,
        10185 => Code::NotSupported,
        10002 | 10023 | 10028 | 10047 | 10122 => Code::StreamFull,
        // Whatever went wrong while storing has this number; only the sentence tells what.
        10077 if is_full(description) => Code::StreamFull,
        10077 => Code::JetStreamUnavailable,
        10052 if description.contains("update can not") => Code::Conflict,
        10003 | 10025 | 10052 => Code::InvalidBody,
        _ if is_in(err_code, PASSING) => Code::JetStreamUnavailable,
        _ if is_in(err_code, CONFLICTS) => Code::Conflict,
        // Configurations that are wrong in themselves.
        10011 | 10015..=10022 | 10024 | 10030..=10034 | 10046 | 10056 => Code::InvalidBody,
        10078..=10095 | 10098 | 10101..=10103 | 10107 | 10108 => Code::InvalidBody,
        10112..=10116 | 10121 | 10125..=10128 | 10131..=10147 => Code::InvalidBody,
        10150..=10157 | 10159..=10162 | 10169..=10171 | 10173 => Code::InvalidBody,
        10175..=10179 | 10181..=10184 | 10186..=10193 | 10196..=10200 => Code::InvalidBody,
        10203 | 10204 | 10206 | 10207 | 10209 | 10212..=10223 => Code::InvalidBody,
        _ => Code::NatsError,
    }
}

fn is_full(description: &str) -> bool {
    ["maximum", "exceeded", "no space", "insufficient"]
        .iter()
        .any(|word| description.contains(word))
}

#[cfg(test)]
mod tests;
