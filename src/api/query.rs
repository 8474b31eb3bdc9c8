//! Query parameters: read in one pass, and without allocation unless something was percent-encoded.

mod spelling;

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::Param;
use crate::problem::{Code, Problem};
use crate::translate::duration;
use crate::translate::query::pairs;

/// What only built-in routes take, beside [`Param::ALL`].
const BUILT_IN_ONLY: [&str; 5] = ["delay", "kind", "max_bytes", "reason", "wait"];

/// Which query parameters a route takes. Prepared when the route is built.
#[derive(Clone, Debug)]
pub struct Params {
    allowed: Box<[&'static str]>,
    /// Others whose values the route's own headers use.
    captured: Box<[Box<str>]>,
    /// The query of a built-in route is natsway's alone, so a slip of the pen is told.
    built_in: bool,
}

impl Params {
    /// Those of a built-in route.
    #[must_use]
    pub fn built_in(allowed: &[&'static str]) -> Self {
        Self {
            allowed: allowed.into(),
            captured: Box::default(),
            built_in: true,
        }
    }

    /// Those a declared route lists; its templates may use more by the names in `captured`.
    #[must_use]
    pub fn declared<'c>(allowed: &[Param], captured: impl IntoIterator<Item = &'c str>) -> Self {
        Self {
            allowed: allowed.iter().map(|param| param.as_str()).collect(),
            captured: captured.into_iter().map(Into::into).collect(),
            built_in: false,
        }
    }

    fn allowed(&self, name: &str) -> Option<&'static str> {
        self.allowed.iter().find(|known| **known == name).copied()
    }

    /// A parameter that the route does not take is ignored, unless it was meant for natsway.
    fn refuse(&self, name: &str) -> Result<(), Problem> {
        if is_known(name) {
            return Err(invalid(name, "this route does not take it"));
        }
        match self
            .allowed
            .iter()
            .find(|known| self.built_in && spelling::is_slip(name, known))
        {
            Some(meant) => Err(invalid(name, format!("not known; `{meant}` is"))),
            None => Ok(()),
        }
    }
}

fn is_known(name: &str) -> bool {
    let declarable = Param::ALL.iter().map(|param| param.as_str());
    declarable.chain(BUILT_IN_ONLY).any(|known| known == name)
}

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub struct Query<'q> {
    known: Vec<(&'static str, Cow<'q, str>)>,
    captured: Vec<(Cow<'q, str>, Cow<'q, str>)>,
}

impl<'q> Query<'q> {
    /// Reads a query as it is in the URL.
    ///
    /// # Errors
    /// A parameter that the route does not take, one that is given twice (but for `subject`), or one
    /// that is not UTF-8.
    pub fn parse(raw: Option<&'q str>, params: &Params) -> Result<Self, Problem> {
        let mut query = Self::default();
        for (name, value) in pairs(raw.unwrap_or_default()) {
            query.take(name, value, params)?;
        }
        Ok(query)
    }

    fn take(&mut self, raw: &'q str, value: &'q str, params: &Params) -> Result<(), Problem> {
        // A name that is not UTF-8 is none that anybody knows.
        let Some(name) = decode(raw) else {
            return Ok(());
        };
        let Some(known) = params.allowed(&name) else {
            if params.captured.iter().any(|captured| **captured == *name) {
                let value = decode(value).ok_or_else(|| invalid(&name, "not UTF-8"))?;
                self.captured.push((name, value));
                return Ok(());
            }
            return params.refuse(&name);
        };
        // The deadline was set before, by the name as it is.
        if known == Param::Timeout.as_str() && raw != known {
            return Err(invalid(known, "its name must not be percent-encoded"));
        }
        if known != Param::Subject.as_str() && self.get(known).is_some() {
            return Err(invalid(known, "given twice"));
        }
        let value = decode(value).ok_or_else(|| invalid(known, "not UTF-8"))?;
        self.known.push((known, value));
        Ok(())
    }

    /// A parameter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.known.iter().filter(move |(known, _)| *known == name);
        named.map(|(_, value)| value.as_ref())
    }

    /// The value that a template uses as `{query.name}`.
    #[must_use]
    pub fn captured(&self, name: &str) -> Option<&str> {
        let found = self.captured.iter().find(|(captured, _)| captured == name);
        found.map_or_else(|| self.get(name), |(_, value)| Some(value.as_ref()))
    }

    /// A parameter's value, read by a function whose error says what is wrong with it.
    ///
    /// # Errors
    /// When the function cannot read it.
    pub fn read<T, E: Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let value = self.get(name).map(read).transpose();
        value.map_err(|error| invalid(name, error))
    }

    /// A parameter's value as any type that can be written as text.
    ///
    /// # Errors
    /// When it is not that type's text.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.read(name, str::parse)
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none, or too large.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.read(name, |text| {
            match text.bytes().all(|byte| byte.is_ascii_digit()) {
                true => text.parse().map_err(|_| "not a whole number, or too large"),
                false => Err("not a whole number"),
            }
        })
    }

    /// A duration.
    ///
    /// # Errors
    /// When it is none.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Problem> {
        self.read(name, duration::parse)
    }
}

/// What is wrong with a parameter.
#[must_use]
pub fn invalid(name: &str, why: impl Display) -> Problem {
    // A name comes from the client; what it may do to a terminal stays out.
    let name: String = name
        .chars()
        .filter(|letter| !letter.is_control())
        .take(64)
        .collect();
    Problem::new(Code::InvalidParameter).detail(format!("{name}: {why}"))
}

/// As HTML forms and every HTTP client write it: `+` is a blank.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().ok();
    }
    let blanks = text.replace('+', " ");
    let decoded = percent_decode_str(&blanks).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests;
