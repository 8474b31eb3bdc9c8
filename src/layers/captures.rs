//! What a route's path captured of a request's.

use http::Extensions;
use percent_encoding::percent_decode_str;

use super::context::Context;
use crate::problem::{Code, Problem};
use crate::workers::{Own, Striped};

/// Percent-decoded values by name.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    names: Option<Own<[Box<str>]>>,
    /// None where one is not UTF-8: who needs the values says so, inside its stack.
    values: Option<Vec<Box<str>>>,
}

impl Captures {
    /// Nothing.
    pub const NONE: Self = Self {
        names: None,
        values: None,
    };

    /// Values as they stand in the path, in the order of their names.
    pub fn decode<'p>(names: &Striped<[Box<str>]>, values: impl Iterator<Item = &'p str>) -> Self {
        let decode = |value: &'p str| match value.as_bytes().contains(&b'%') {
            true => Some(percent_decode_str(value).decode_utf8().ok()?.into()),
            false => Some(value.into()),
        };
        Self {
            names: Some(names.own()),
            values: values.map(decode).collect(),
        }
    }

    /// Those of a request as axum knows it.
    ///
    /// # Errors
    /// When one is not UTF-8.
    pub fn of(extensions: &Extensions) -> Result<&Self, Problem> {
        Context::in_extensions(extensions).captures.checked()
    }

    /// The same captures, of which all can be read.
    ///
    /// # Errors
    /// When one is not UTF-8.
    pub fn checked(&self) -> Result<&Self, Problem> {
        if self.names.is_some() && self.values.is_none() {
            return Err(Problem::new(Code::InvalidSubject).detail("the path is not UTF-8"));
        }
        Ok(self)
    }

    /// A capture's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let names = self.names.as_deref().unwrap_or_default();
        let index = names.iter().position(|known| **known == *name)?;
        self.values.as_ref()?.get(index).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once_and_found_by_name() {
        let names = Striped::new(["stream".into(), "consumer".into()]);
        let captures = Captures::decode(&names, ["a%20b", "%252A"].into_iter());
        assert_eq!(captures.get("stream"), Some("a b"));
        assert_eq!(captures.get("consumer"), Some("%2A"));
        assert_eq!(captures.get("subject"), None);
        assert_eq!(Captures::NONE.get("stream"), None);
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        let names = Striped::new(["subject".into()]);
        let mut extensions = Extensions::new();
        extensions.insert(Context {
            captures: Captures::decode(&names, ["%ff"].into_iter()),
            ..Context::default()
        });
        let problem = Captures::of(&extensions).unwrap_err();
        assert_eq!(problem.code(), Code::InvalidSubject);
    }
}
