//! However a body is cut into pieces, its lines are those of the whole.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use natsway::translate::lines::{Line, Lines};

fuzz_target!(|input: (Vec<&[u8]>, u8)| {
    let (pieces, limit) = input;
    let limit = usize::from(limit);
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    for piece in &pieces {
        lines.push(Bytes::copy_from_slice(piece));
        while let Some(line) = lines.next_line() {
            found.push(line);
        }
    }
    found.extend(lines.finish());
    assert_eq!(found, of_the_whole(&pieces.concat(), limit));
});

fn of_the_whole(body: &[u8], limit: usize) -> Vec<Line> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let mut found = Vec::new();
    for (line, number) in body.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limit {
            found.push(Line::TooLong { number });
        } else if !line.is_empty() {
            found.push(Line::Full {
                number,
                bytes: Bytes::copy_from_slice(line),
            });
        }
    }
    found
}
