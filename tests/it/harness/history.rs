//! What was promised against what came about.
//!
//! A test notes each attempt under a key of its own together with the answer, then everything that
//! was stored or delivered; the verdict names what breaks the contract's promises P1, P3 and P9.

use std::collections::HashMap;
use std::sync::Mutex;

use super::client::Answer;

/// What an answer promises about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// It arrived (204, or 200 with a sequence).
    Arrived,
    /// It may or may not arrive: 202, `unknown`, or no answer at all.
    Open,
    /// It never arrives: `not_sent` or `rejected`.
    Never,
}

impl Promise {
    /// Reads a publish answer, or the lack of one.
    pub(crate) fn of(answer: Option<&Answer>) -> Self {
        let Some(answer) = answer else {
            return Self::Open;
        };
        match answer.status.as_u16() {
            200 | 204 => Self::Arrived,
            202 => Self::Open,
            _ => match answer.problem()["outcome"].as_str() {
                Some("not_sent" | "rejected") => Self::Never,
                _ => Self::Open,
            },
        }
    }
}

/// The notes; shared by the tasks of a test.
#[derive(Default)]
pub(crate) struct History {
    promised: Mutex<HashMap<String, Promise>>,
    seen: Mutex<Vec<String>>,
}

/// What is wrong, by key; all empty when every promise held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Promised, but not there.
    pub(crate) lost: Vec<String>,
    /// There more than once.
    pub(crate) duplicated: Vec<String>,
    /// There although the answer said never, or never attempted at all.
    pub(crate) phantom: Vec<String>,
}

impl Verdict {
    /// Fails unless nothing was lost, duplicated or a phantom.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(*self, Self::default(), "promises were broken");
    }
}

impl History {
    /// Notes an attempt that is about to be made: until it is answered, anything may come of it.
    pub(crate) fn attempt(&self, key: &str) {
        let mut promised = self.promised.lock().expect("no holder panics");
        promised.entry(key.to_owned()).or_insert(Promise::Open);
    }

    /// Notes the answer of an attempt. A key that is tried again keeps the strongest promise: what
    /// an earlier attempt left open stays possible, what one confirmed must be there.
    pub(crate) fn answered(&self, key: &str, answer: Option<&Answer>, first_try: bool) {
        let promise = Promise::of(answer);
        let mut promised = self.promised.lock().expect("no holder panics");
        let entry = promised.entry(key.to_owned()).or_insert(Promise::Open);
        if promise == Promise::Arrived || (first_try && *entry == Promise::Open) {
            *entry = promise;
        }
    }

    /// Notes one stored or delivered message.
    pub(crate) fn saw(&self, key: &str) {
        self.seen
            .lock()
            .expect("no holder panics")
            .push(key.to_owned());
    }

    /// How many attempts were answered in this way.
    pub(crate) fn count(&self, promise: Promise) -> usize {
        let promised = self.promised.lock().expect("no holder panics");
        promised.values().filter(|p| **p == promise).count()
    }

    /// Compares.
    pub(crate) fn verdict(&self) -> Verdict {
        let promised = self.promised.lock().expect("no holder panics");
        let mut times: HashMap<String, usize> = HashMap::new();
        for key in self.seen.lock().expect("no holder panics").iter() {
            *times.entry(key.clone()).or_default() += 1;
        }
        let mut verdict = Verdict::default();
        for (key, promise) in promised.iter() {
            match (promise, times.get(key).copied().unwrap_or_default()) {
                (Promise::Arrived, 0) => verdict.lost.push(key.clone()),
                (Promise::Never, 1..) => verdict.phantom.push(key.clone()),
                _ => {}
            }
        }
        for (key, times) in &times {
            if !promised.contains_key(key) {
                verdict.phantom.push(key.clone());
            }
            if *times > 1 {
                verdict.duplicated.push(key.clone());
            }
        }
        verdict.lost.sort();
        verdict.duplicated.sort();
        verdict.phantom.sort();
        verdict
    }
}
