//! Lines out of a body that arrives in pieces, in bounded memory.

use bytes::Bytes;

/// One line, counted from 1; every line counts, empty ones too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line that is not empty, without its LF or CRLF.
    Full {
        /// Its number.
        number: u64,
        /// A slice of the piece it came in, where it came in one.
        bytes: Bytes,
    },
    /// A line over the limit. Its bytes are gone.
    TooLong {
        /// Its number.
        number: u64,
    },
}

/// Takes a body piece by piece and gives its lines. It keeps at most one line and the last piece.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    piece: Bytes,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// The beginning of the current line was over the limit and is gone.
    is_too_long: bool,
    number: u64,
}

impl Lines {
    /// Lines of at most `limit` bytes, their ends not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            piece: Bytes::new(),
            begun: Vec::new(),
            is_too_long: false,
            number: 0,
        }
    }

    /// Takes the next piece, after [`Self::next_line`] has given all it could.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "lines are left in the last piece");
        self.piece = piece;
    }

    /// The next whole line; `None` means that more of the body is needed. Empty lines are counted
    /// and passed over.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.piece) else {
                let rest = std::mem::take(&mut self.piece);
                self.begin(&rest);
                return None;
            };
            let mut rest = self.piece.split_to(end + 1);
            rest.truncate(end);
            if let Some(line) = self.end(rest) {
                return Some(line);
            }
        }
    }

    /// The last line, where the body does not end with a line break.
    pub fn finish(&mut self) -> Option<Line> {
        let has_begun = self.is_too_long || !self.begun.is_empty();
        if has_begun {
            self.end(Bytes::new())
        } else {
            None
        }
    }

    /// The number of lines that have ended.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.number
    }

    fn begin(&mut self, start: &[u8]) {
        // One more than the limit, for a CR that may turn out to belong to the line's end.
        self.is_too_long |= start.len() > (self.limit + 1).saturating_sub(self.begun.len());
        if self.is_too_long {
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(start);
        }
    }

    fn end(&mut self, rest: Bytes) -> Option<Line> {
        self.number += 1;
        let number = self.number;
        let mut bytes = rest;
        if !self.begun.is_empty() {
            self.begin(&bytes);
            bytes = std::mem::take(&mut self.begun).into();
        }
        if std::mem::take(&mut self.is_too_long) {
            return Some(Line::TooLong { number });
        }
        if bytes.ends_with(b"\r") {
            bytes.truncate(bytes.len() - 1);
        }
        match bytes.len() {
            0 => None,
            length if length > self.limit => Some(Line::TooLong { number }),
            _ => Some(Line::Full { number, bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(limit: usize, pieces: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(Bytes::copy_from_slice(piece));
            while let Some(line) = lines.next_line() {
                found.push(line);
            }
            assert!(lines.begun.len() <= limit + 1);
        }
        found.extend(lines.finish());
        assert_eq!(lines.finish(), None);
        found
    }

    fn full(number: u64, text: &'static str) -> Line {
        Line::Full {
            number,
            bytes: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn lf_and_crlf_end_a_line_and_empty_lines_count() {
        let lines = split(10, &[b"a\r\n\n\r\nb\rc\n", b"\nd"]);
        assert_eq!(lines, [full(1, "a"), full(4, "b\rc"), full(6, "d")]);
        assert_eq!(split(10, &[b""]), []);
        assert_eq!(split(10, &[b"a\n"]), [full(1, "a")]);
        assert_eq!(split(10, &[b"a\r"]), [full(1, "a")]);
    }

    #[test]
    fn a_line_over_the_limit_is_reported_and_the_next_is_whole() {
        let too_long = |number| Line::TooLong { number };
        assert_eq!(split(2, &[b"abc\nde\n"]), [too_long(1), full(2, "de")]);
        assert_eq!(
            split(2, &[b"ab", b"c", b"d\nde\r", b"\n"]),
            [too_long(1), full(2, "de")]
        );
        assert_eq!(split(2, &[b"abcdef"]), [too_long(1)]);
        assert_eq!(split(2, &[b"ab\r", b"c\n"]), [too_long(1)]);
        assert_eq!(split(2, &[b"ab\r", b"\nx"]), [full(1, "ab"), full(2, "x")]);
    }

    #[test]
    fn a_line_within_one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"first\nsecond\n");
        let mut lines = Lines::new(100);
        lines.push(piece.clone());
        while let Some(line) = lines.next_line() {
            let Line::Full { bytes, .. } = line else {
                panic!("{line:?}");
            };
            assert!(piece.as_ptr_range().contains(&bytes.as_ptr()));
        }
    }

    /// All lines of a whole body at once.
    fn reference(limit: usize, body: &[u8]) -> Vec<Line> {
        let mut lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let mut found = Vec::new();
        for (line, number) in lines.into_iter().zip(1..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > limit {
                found.push(Line::TooLong { number });
            } else if !line.is_empty() {
                let bytes = Bytes::copy_from_slice(line);
                found.push(Line::Full { number, bytes });
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_make_no_difference(
            pieces in prop::collection::vec("[ab\r\n]{0,6}", 0..8), limit in 0_usize..6,
        ) {
            let body = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            prop_assert_eq!(split(limit, &pieces), reference(limit, body.as_bytes()));
        }
    }
}
