//! Where a reader of a stream stands: the `id:` of an event, and what a client shows to go on from there.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

/// A sequence in one creation of a stream. A stream that is deleted and created anew counts from 1
/// again; the tag tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last sequence that was looked at.
    pub seq: u64,
    /// Which creation of the stream.
    pub tag: Tag,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.tag)
    }
}

/// One creation of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(i128);

impl Tag {
    /// The tag of a stream that was created then.
    #[must_use]
    pub const fn of(created: OffsetDateTime) -> Self {
        Self(created.unix_timestamp_nanos())
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What a client shows to resume: a position, or a sequence alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeId {
    /// The sequence it has seen last.
    pub seq: u64,
    /// The tag as the client shows it; any text may be a tag, and most are not ours.
    tag: Option<String>,
}

impl ResumeId {
    /// Whether it may be from this creation of a stream. A sequence alone fits all of them.
    #[must_use]
    pub fn fits(&self, tag: Tag) -> bool {
        self.tag.as_ref().is_none_or(|own| *own == tag.to_string())
    }
}

impl fmt::Display for ResumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}-{tag}", self.seq),
            None => write!(f, "{}", self.seq),
        }
    }
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is a sequence such as `42`, or the `id:` of an event")]
pub struct NoPosition;

const TAG_BYTES_MAX: usize = 64;

impl FromStr for ResumeId {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (seq, tag) = match text.split_once('-') {
            Some((seq, tag)) => (seq, Some(tag)),
            None => (text, None),
        };
        let is_tag = |tag: &str| {
            (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_graphic())
        };
        if !seq.bytes().all(|byte| byte.is_ascii_digit()) || !tag.is_none_or(is_tag) {
            return Err(NoPosition);
        }
        Ok(Self {
            seq: seq.parse().map_err(|_| NoPosition)?,
            tag: tag.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const TAG: Tag = Tag::of(datetime!(2026-01-31 12:00:00.123456789 UTC));

    #[test]
    fn what_is_no_position_is_refused() {
        for bad in [
            "",
            "-",
            "x",
            "-1",
            "+1",
            "1-",
            "1- ",
            "live",
            "18446744073709551616",
            "1-\u{e9}",
        ] {
            assert_eq!(bad.parse::<ResumeId>(), Err(NoPosition), "{bad:?}");
        }
    }

    #[test]
    fn another_creation_has_another_tag() {
        let later = Tag::of(datetime!(2026-01-31 12:00:00.123456790 UTC));
        let id: ResumeId = Position { seq: 7, tag: TAG }.to_string().parse().unwrap();
        assert!(id.fits(TAG) && !id.fits(later));
        let foreign: ResumeId = "7-other".parse().unwrap();
        assert!(!foreign.fits(TAG));
        let bare: ResumeId = "7".parse().unwrap();
        assert!(bare.fits(TAG) && bare.fits(later));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_understood(seq: u64) {
            let text = Position { seq, tag: TAG }.to_string();
            let id: ResumeId = text.parse().unwrap();
            prop_assert_eq!(id.seq, seq);
            prop_assert!(id.fits(TAG));
            prop_assert_eq!(id.to_string(), text);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            if let Ok(id) = text.parse::<ResumeId>() {
                prop_assert!(id.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
