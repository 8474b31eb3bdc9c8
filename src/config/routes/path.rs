//! The path of a declared route, and when two of them cannot stand side by side.

use std::{fmt, str::FromStr};

use crate::config::text::written;

/// A path whose segments are literal or one capture each: `/stock/{sku}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePath {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Capture(String),
}

/// How two paths of one method stand to each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// They take the same requests.
    Same,
    /// Some requests fit both, and neither is the more specific one.
    Crossing,
}

impl RoutePath {
    /// The path as written, which is also how the router writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in their order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Whether it lies where natsway's own endpoints are.
    pub(super) fn is_reserved(&self) -> bool {
        self.segments.first() == Some(&Segment::Literal("v1".to_owned()))
    }

    /// Whether it has the same shape under other names, which a router cannot tell apart.
    pub(super) fn renames(&self, other: &Self) -> bool {
        self.text != other.text && self.conflict(other) == Some(Conflict::Same)
    }

    /// `None` when no request fits both, or the more specific one can be preferred.
    pub(super) fn conflict(&self, other: &Self) -> Option<Conflict> {
        if self.segments.len() != other.segments.len() {
            return None;
        }
        let (mut narrower, mut wider) = (false, false);
        for pair in self.segments.iter().zip(&other.segments) {
            match pair {
                (Segment::Literal(ours), Segment::Literal(theirs)) if ours != theirs => {
                    return None;
                }
                (Segment::Literal(_), Segment::Capture(_)) => narrower = true,
                (Segment::Capture(_), Segment::Literal(_)) => wider = true,
                _ => {}
            }
        }
        match (narrower, wider) {
            (false, false) => Some(Conflict::Same),
            (true, true) => Some(Conflict::Crossing),
            _ => None,
        }
    }
}

impl FromStr for RoutePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix('/')
            .ok_or_else(|| format!("`{text}` does not begin with `/`"))?;
        let segments: Vec<Segment> = if rest.is_empty() {
            Vec::new()
        } else {
            rest.split('/')
                .map(segment)
                .collect::<Result<_, String>>()?
        };
        let path = Self {
            text: text.to_owned(),
            segments,
        };
        let mut names: Vec<&str> = path.captures().collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("the capture `{{{}}}` comes twice", pair[0])),
            None => Ok(path),
        }
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    if let Some(name) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        let legal = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if legal {
            Ok(Segment::Capture(name.to_owned()))
        } else {
            Err(format!(
                "`{{{name}}}` is no capture: a name is letters, digits and `_`"
            ))
        };
    }
    if text.is_empty() {
        return Err("has an empty segment".to_owned());
    }
    if matches!(text, "." | "..") {
        return Err(format!("clients resolve the segment `{text}` away"));
    }
    // What a client would percent-encode could be written in more than one way.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte);
    if text.bytes().all(plain) {
        Ok(Segment::Literal(text.to_owned()))
    } else if text.contains(['{', '}']) {
        Err(format!("`{text}`: a capture is a whole segment"))
    } else {
        Err(format!(
            "`{text}` holds a character that has to be percent-encoded"
        ))
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

written!(
    RoutePath,
    "RoutePath",
    "a path such as /stock/{sku}",
    ["/orders", "/stock/{sku}"]
);

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RoutePath {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_has_literal_segments_and_captures() {
        assert_eq!(
            path("/stock/{sku}/in/{place}")
                .captures()
                .collect::<Vec<_>>(),
            ["sku", "place"]
        );
        assert_eq!(path("/").captures().count(), 0);
        assert!(
            path("/v1").is_reserved() && path("/v1/x").is_reserved() && !path("/v10").is_reserved()
        );
    }

    #[test]
    fn what_no_router_could_match_is_refused() {
        for text in [
            "", "orders", "//", "/a/", "/a b", "/ä", "/a%20", "/{a}/{a}", "/{}", "/{a}b",
            "/{*rest}", "/../a", "/a?b",
        ] {
            assert!(text.parse::<RoutePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_more_specific_path_is_no_conflict() {
        let conflict = |a: &str, b: &str| path(a).conflict(&path(b));
        assert_eq!(conflict("/orders/{id}", "/orders/feed"), None);
        assert_eq!(conflict("/orders/{id}", "/orders/{id}/lines"), None);
        assert_eq!(
            conflict("/orders/{id}", "/orders/{key}"),
            Some(Conflict::Same)
        );
        assert_eq!(conflict("/a/{x}/b", "/a/c/{y}"), Some(Conflict::Crossing));
        assert_eq!(conflict("/a/{x}/b", "/a/{x}/c"), None);
        assert!(
            path("/a/{x}").renames(&path("/a/{y}")) && !path("/a/{x}").renames(&path("/a/{x}"))
        );
    }
}
