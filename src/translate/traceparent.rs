//! The W3C trace context: `traceparent`, and what goes with it.

/// A header of the trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextHeader {
    /// `traceparent`.
    Parent,
    /// `tracestate`.
    State,
    /// `baggage`.
    Baggage,
}

impl ContextHeader {
    /// Which one a name stands for, in any case: nats-server and Go's clients do not write them in lower
    /// case.
    #[must_use]
    pub const fn of(name: &str) -> Option<Self> {
        match name.len() {
            11 if name.eq_ignore_ascii_case("traceparent") => Some(Self::Parent),
            10 if name.eq_ignore_ascii_case("tracestate") => Some(Self::State),
            7 if name.eq_ignore_ascii_case("baggage") => Some(Self::Baggage),
            _ => None,
        }
    }

    /// Its name, as it is written to both sides.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parent => "traceparent",
            Self::State => "tracestate",
            Self::Baggage => "baggage",
        }
    }
}

/// What becomes of a trace context that a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientContext {
    /// It goes on.
    #[default]
    Kept,
    /// It ends here, because clients are not trusted.
    Dropped,
}

/// Whether a value is a whole `traceparent`: version, trace id, parent id, flags. A damaged one is
/// not passed on, because every system behind it would have to find that out again.
#[must_use]
pub fn is_traceparent(value: &str) -> bool {
    let Some((head, more)) = value.as_bytes().split_first_chunk::<55>() else {
        return false;
    };
    let version = &head[..2];
    [head[2], head[35], head[52]] == *b"---"
        && is_hex(version)
        && version != b"ff"
        && is_id(&head[3..35])
        && is_id(&head[36..52])
        && is_hex(&head[53..])
        // Later versions may append fields; version 00 has none.
        && (more.is_empty() || (more[0] == b'-' && version != b"00"))
}

/// The trace id and the parent id of a whole `traceparent`.
#[must_use]
pub fn trace_ids(value: &str) -> Option<(&str, &str)> {
    is_traceparent(value).then(|| (&value[3..35], &value[36..52]))
}

/// The `traceparent` of a sampled span, which goes out twice with every sampled request.
#[must_use]
pub fn sampled_traceparent(trace: [u8; 16], span: [u8; 8]) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    write_hex(&trace, &mut text[3..35]);
    write_hex(&span, &mut text[36..52]);
    text
}

fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn is_id(text: &[u8]) -> bool {
    is_hex(text) && text.iter().any(|byte| *byte != b'0')
}

fn is_hex(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{is_traceparent, sampled_traceparent, trace_ids};

    #[test]
    fn what_is_written_is_read() {
        let (trace, span) = (
            0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128,
            0xb7ad_6b71_6920_3331_u64,
        );
        let text = sampled_traceparent(trace.to_be_bytes(), span.to_be_bytes());
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(
            text,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        );
        assert!(is_traceparent(text));
    }

    #[test]
    fn only_whole_ones_pass() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = "b7ad6b7169203331";
        let zero = "0".repeat(32);
        let good = [
            format!("00-{trace}-{parent}-01"),
            format!("01-{trace}-{parent}-01-more"),
        ];
        let bad = [
            String::new(),
            "00".to_owned(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{zero}-{parent}-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{trace}x-{parent}-01"),
            format!("00-{trace}-{parent}-0g"),
        ];
        for value in good {
            assert!(is_traceparent(&value), "{value}");
            assert_eq!(trace_ids(&value), Some((trace, parent)));
        }
        for value in bad {
            assert!(!is_traceparent(&value), "{value}");
        }
    }
}
