//! Texts with captures: `inventory.stock.{sku}`.

use std::fmt;

use super::{Subject, SubjectError, SubjectPattern, holds_encoded_wildcard};

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner, or one inside another.
    #[error("the brace at position {position} has no partner")]
    Brace {
        /// Counted in bytes from 0.
        position: usize,
    },
    /// A capture's name is empty or holds something else than letters, digits, `_`, `-` and `.`.
    #[error("`{{{name}}}` is no name for a capture")]
    CaptureName {
        /// What stands between the braces.
        name: String,
    },
    /// The text around the captures is no legal subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Capture(Box<str>),
}

/// A text with `{captures}`, parsed once and filled in for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    pieces: Vec<Piece>,
}

impl Template {
    /// Finds the captures.
    ///
    /// # Errors
    ///
    /// When braces do not pair up or a capture has no proper name.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = source;
        while !rest.is_empty() {
            let at = source.len() - rest.len();
            let text = &rest[..rest.find(['{', '}']).unwrap_or(rest.len())];
            if !text.is_empty() {
                pieces.push(Piece::Text(text.into()));
                rest = &rest[text.len()..];
                continue;
            }
            let (name, after) = rest
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or(TemplateError::Brace { position: at })?;
            if !is_capture_name(name) {
                return Err(TemplateError::CaptureName { name: name.into() });
            }
            pieces.push(Piece::Capture(name.into()));
            rest = after;
        }
        Ok(Self {
            source: source.into(),
            pieces,
        })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The names of its captures in their order; one used twice comes twice.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Capture(name) => Some(&**name),
        })
    }

    /// Fills in the captures; `None` where one has no value.
    pub fn render<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
        let mut text = String::with_capacity(self.source.len() + 32);
        for piece in &self.pieces {
            text.push_str(match piece {
                Piece::Text(literal) => literal,
                Piece::Capture(name) => value(name)?,
            });
        }
        Some(text)
    }
}

fn is_capture_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// A subject or pattern with captures. A captured value stays inside one token, so it can neither
/// add a token nor bring in a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectTemplate {
    template: Template,
    widest: SubjectPattern,
    literal: Option<Subject>,
}

impl SubjectTemplate {
    /// Finds the captures and checks what stands around them.
    ///
    /// # Errors
    ///
    /// When it is no template, or no legal subject could come out of it.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let template = Template::parse(source)?;
        // One letter for each capture shows whether the text around them is legal.
        let sample = template.render(|_| Some("x")).unwrap_or_default();
        SubjectPattern::parse(&sample)?;
        let widest = SubjectPattern::parse(&widest(source))?;
        let literal = match template.captures().next() {
            None => widest.to_literal(),
            Some(_) => None,
        };
        Ok(Self {
            template,
            widest,
            literal,
        })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.template.as_str()
    }

    /// The names of its captures in their order; one used twice comes twice.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.template.captures()
    }

    /// The narrowest pattern that covers all that can come out of it: a token with a capture is `*`.
    #[must_use]
    pub fn widest(&self) -> &SubjectPattern {
        &self.widest
    }

    /// Whether it has wildcards of its own, so that only [`Self::bind_pattern`] can succeed.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.as_str()
            .split('.')
            .any(|token| matches!(token, "*" | ">"))
    }

    /// Fills in the captures. Without captures nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`SubjectError::Capture`] for a missing value or one that is not a legal token;
    /// [`SubjectError::Wildcard`] for a template with wildcards.
    pub fn bind<'v>(
        &self,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Subject, SubjectError> {
        match &self.literal {
            Some(subject) => Ok(subject.clone()),
            None => Subject::parse(&self.render(value)?),
        }
    }

    /// Fills in the captures of a template that may have wildcards.
    ///
    /// # Errors
    ///
    /// [`SubjectError::Capture`] for a missing value or one that is not a legal token.
    pub fn bind_pattern<'v>(
        &self,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<SubjectPattern, SubjectError> {
        match self.captures().next() {
            None => Ok(self.widest.clone()),
            Some(_) => SubjectPattern::parse(&self.render(value)?),
        }
    }

    fn render<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, SubjectError> {
        let bad = self
            .captures()
            .find(|name| !value(name).is_some_and(is_token));
        match bad {
            Some(name) => Err(SubjectError::Capture { name: name.into() }),
            None => Ok(self.template.render(value).unwrap_or_default()),
        }
    }
}

fn is_token(value: &str) -> bool {
    !value.is_empty()
        && !holds_encoded_wildcard(value)
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>'))
}

/// `source` with every token that holds a capture replaced by `*`. A capture's name may hold dots.
fn widest(source: &str) -> String {
    let mut pattern = String::with_capacity(source.len());
    let mut token = String::new();
    let (mut depth, mut captured) = (0_usize, false);
    for letter in source.chars().chain(['.']) {
        match letter {
            '{' => (depth, captured) = (1, true),
            '}' => depth = 0,
            '.' if depth == 0 => {
                pattern.push_str(if captured { "*" } else { &token });
                pattern.push('.');
                token.clear();
                captured = false;
            }
            other if depth == 0 => token.push(other),
            _ => {}
        }
    }
    pattern.pop();
    pattern
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sku<'v>(value: &'v str) -> impl Fn(&str) -> Option<&'v str> {
        move |name| (name == "sku").then_some(value)
    }

    #[test]
    fn a_template_lists_its_captures_and_binds_them() {
        let template = SubjectTemplate::parse("inventory.{sku}.in-{sku}").unwrap();
        assert_eq!(template.captures().collect::<Vec<_>>(), ["sku", "sku"]);
        assert_eq!(template.widest().as_str(), "inventory.*.*");
        let bound = template.bind(sku("a1")).unwrap();
        assert_eq!(bound.as_str(), "inventory.a1.in-a1");
    }

    #[test]
    fn a_template_without_captures_is_the_subject() {
        let template = SubjectTemplate::parse("orders.created").unwrap();
        assert_eq!(template.bind(|_| None).unwrap().as_str(), "orders.created");
    }

    #[test]
    fn a_template_with_wildcards_binds_to_a_pattern_only() {
        let template = SubjectTemplate::parse("orders.{sku}.>").unwrap();
        assert!(template.has_wildcards());
        let pattern = template.bind_pattern(sku("7")).unwrap();
        assert_eq!(pattern.as_str(), "orders.7.>");
        assert_eq!(template.bind(sku("7")), Err(SubjectError::Wildcard));
        let plain = SubjectTemplate::parse("orders.*").unwrap();
        assert_eq!(plain.bind(sku("7")), Err(SubjectError::Wildcard));
        assert_eq!(plain.bind_pattern(sku("7")).unwrap().as_str(), "orders.*");
    }

    #[test]
    fn a_captured_value_is_one_legal_token() {
        let template = SubjectTemplate::parse("stock.{sku}").unwrap();
        let error = SubjectError::Capture { name: "sku".into() };
        for bad in ["", "a.b", ".", "*", ">", "a b", "a\r\nPUB x 0", "ä", "\0"] {
            assert_eq!(template.bind(sku(bad)), Err(error.clone()), "{bad:?}");
        }
        assert_eq!(template.bind(|_| None), Err(error));
        let long = "x".repeat(600);
        assert_eq!(
            template.bind(sku(&long)),
            Err(SubjectError::TooLong { limit: 512 })
        );
    }

    #[test]
    fn damaged_templates_are_refused() {
        for (source, position) in [("a.{b", 2), ("a}.b", 1), ("{", 0)] {
            assert_eq!(
                SubjectTemplate::parse(source),
                Err(TemplateError::Brace { position }),
                "{source}"
            );
        }
        for source in ["a.{}", "a.{b c}", "a.{{b}}"] {
            let error = SubjectTemplate::parse(source).unwrap_err();
            assert!(
                matches!(error, TemplateError::CaptureName { .. }),
                "{source}"
            );
        }
        for source in ["", ".{a}", "{a}..b", "{a}*", "a b.{c}", ">.{a}"] {
            let error = SubjectTemplate::parse(source).unwrap_err();
            assert!(matches!(error, TemplateError::Subject(_)), "{source}");
        }
    }

    proptest! {
        #[test]
        fn what_is_bound_has_the_templates_shape(value in ".{0,12}") {
            let template = SubjectTemplate::parse("a.{sku}.b-{sku}-c").unwrap();
            if let Ok(subject) = template.bind(sku(&value)) {
                prop_assert!(template.widest().matches(subject.as_str()));
                prop_assert_eq!(subject.as_str().split('.').count(), 3);
                prop_assert_eq!(subject.as_str(), format!("a.{value}.b-{value}-c"));
            }
        }
    }
}
