//! Where a reader begins, from what it asks for and what the stream looks like.

use super::look::Look;
use crate::api::notice::Gap;
use crate::config::ReplayFrom;
use crate::translate::position::ResumeId;

/// Where it begins, as far as a look at the stream tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Start {
    /// After this sequence.
    After {
        seq: u64,
        /// What it missed before.
        missed: Option<Gap>,
    },
    /// With the last message; it has to be looked for.
    Last,
    /// Where a consumer with this policy begins.
    Asked(Policy),
}

/// A deliver policy that only the server can resolve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Policy {
    Time(time::OffsetDateTime),
    LastPerSubject,
}

impl Start {
    pub(super) fn of(resume: Option<&ResumeId>, from: ReplayFrom, look: &Look, all: bool) -> Self {
        if let Some(id) = resume {
            return Self::resuming(id, look, all);
        }
        let before_first = look.first_seq - 1;
        let seq = match from {
            ReplayFrom::New => look.last_seq,
            ReplayFrom::All => before_first,
            // Beyond the end is the end, as for a consumer of NATS: a position that has not come yet could
            // not be told from one in another stream.
            ReplayFrom::Seq(seq) => seq.saturating_sub(1).min(look.last_seq).max(before_first),
            ReplayFrom::Last => return Self::Last,
            ReplayFrom::LastPerSubject => return Self::Asked(Policy::LastPerSubject),
            ReplayFrom::Time(time) => return Self::Asked(Policy::Time(time)),
        };
        Self::After { seq, missed: None }
    }

    fn resuming(id: &ResumeId, look: &Look, all: bool) -> Self {
        let before_first = look.first_seq - 1;
        if !id.fits(look.tag) || id.seq > look.last_seq {
            return Self::After {
                seq: before_first,
                missed: Some(Gap::unknown("stream-reset")),
            };
        }
        Self::After {
            seq: id.seq.max(before_first),
            missed: (id.seq < before_first).then(|| trimmed(id.seq + 1, before_first, all)),
        }
    }
}

/// The stream has let go of these before they could be read. How many of them a filter would have
/// let through, nobody knows any more.
pub(super) fn trimmed(from: u64, to: u64, all: bool) -> Gap {
    Gap {
        dropped: all.then(|| to - from + 1),
        reason: "trimmed",
        range: Some((from, to)),
    }
}

/// A message that ends every connection it is sent over.
pub(super) const fn unreadable(seq: u64) -> Gap {
    Gap {
        dropped: Some(1),
        reason: "unreadable",
        range: Some((seq, seq)),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::look::Retention;
    use super::*;
    use crate::translate::position::{Position, Tag};

    const TAG: Tag = Tag::of(datetime!(2026-01-31 12:00 UTC));

    fn look(first_seq: u64, last_seq: u64) -> Look {
        Look {
            tag: TAG,
            first_seq,
            last_seq,
            subjects: Vec::new(),
            is_single: true,
            retention: Retention::Limits,
            trims: false,
            per_subject: false,
        }
    }

    fn resume(id: &str, first_seq: u64, last_seq: u64, all: bool) -> (u64, Option<Gap>) {
        let id: ResumeId = id.parse().unwrap();
        match Start::of(Some(&id), ReplayFrom::New, &look(first_seq, last_seq), all) {
            Start::After { seq, missed } => (seq, missed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_begins_where_it_says() {
        let time = datetime!(2026-01-31 12:00 UTC);
        for (from, seq) in [
            (ReplayFrom::New, 9),
            (ReplayFrom::All, 3),
            (ReplayFrom::Seq(0), 3),
            (ReplayFrom::Seq(4), 3),
            (ReplayFrom::Seq(7), 6),
            (ReplayFrom::Seq(11), 9),
            (ReplayFrom::Seq(100), 9),
        ] {
            let start = Start::of(None, from, &look(4, 9), true);
            assert_eq!(start, Start::After { seq, missed: None }, "{from}");
        }
        let look = look(1, 0);
        for (from, start) in [
            (
                ReplayFrom::All,
                Start::After {
                    seq: 0,
                    missed: None,
                },
            ),
            (
                ReplayFrom::New,
                Start::After {
                    seq: 0,
                    missed: None,
                },
            ),
            (ReplayFrom::Last, Start::Last),
            (
                ReplayFrom::LastPerSubject,
                Start::Asked(Policy::LastPerSubject),
            ),
            (ReplayFrom::Time(time), Start::Asked(Policy::Time(time))),
        ] {
            assert_eq!(Start::of(None, from, &look, true), start, "{from}");
        }
    }

    #[test]
    fn a_client_that_returns_goes_on_right_after_its_position() {
        for (id, first, last, seq) in [
            ("4", 1, 9, 4),
            ("9", 1, 9, 9),
            ("3", 4, 9, 3),
            ("0", 1, 0, 0),
            ("9", 10, 9, 9),
        ] {
            assert_eq!(resume(id, first, last, true), (seq, None), "{id}");
        }
        let tagged = Position { seq: 5, tag: TAG }.to_string();
        assert_eq!(resume(&tagged, 1, 9, true), (5, None));
    }

    #[test]
    fn what_was_trimmed_is_numbered() {
        let (seq, gap) = resume("3", 7, 9, true);
        let gap = gap.unwrap();
        assert_eq!((seq, gap.dropped, gap.range), (6, Some(3), Some((4, 6))));
        let (_, gap) = resume("3", 7, 9, false);
        let gap = gap.unwrap();
        assert_eq!((gap.dropped, gap.range), (None, Some((4, 6))));
        // Purged: nothing is left, and everything after the position is gone.
        let (seq, gap) = resume("3", 10, 9, true);
        assert_eq!((seq, gap.unwrap().range), (9, Some((4, 9))));
    }

    #[test]
    fn another_stream_of_the_same_name_is_read_from_its_beginning() {
        for id in ["10", "5-other", "18446744073709551615"] {
            let (seq, gap) = resume(id, 4, 9, true);
            assert_eq!(seq, 3, "{id}");
            assert_eq!(gap, Some(Gap::unknown("stream-reset")), "{id}");
        }
    }
}
