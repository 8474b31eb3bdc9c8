//! JSON that is passed through unread: is it well-formed, and how does a text become a string?

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The deepest nesting that is embedded. Receivers' parsers have limits of their own (128 is common),
/// and a publisher must not be able to break them.
const DEPTH_MAX: u32 = 64;

/// Whether the text is JSON that may stand inside other JSON: valid, and not nested too deep.
#[must_use]
pub fn embeddable(text: &str) -> bool {
    Scanner {
        bytes: text.as_bytes(),
        at: 0,
    }
    .document()
    .is_some()
}

/// Appends a text as a JSON string.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes every byte and a str is a JSON string");
}

/// Containers that are open, innermost in the lowest bit: 1 for an object, 0 for an array.
#[derive(Default)]
struct Open {
    kinds: u64,
    depth: u32,
}

impl Open {
    fn push(&mut self, object: bool) -> Option<()> {
        self.kinds = (self.kinds << 1) | u64::from(object);
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }

    fn pop(&mut self) {
        self.kinds >>= 1;
        self.depth -= 1;
    }

    const fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }
}

/// `None` everywhere means: not JSON.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn document(mut self) -> Option<()> {
        let mut open = Open::default();
        loop {
            if self.value(&mut open)? {
                continue;
            }
            loop {
                self.blank();
                if open.depth == 0 {
                    return (self.at == self.bytes.len()).then_some(());
                }
                match self.next()? {
                    b',' => break,
                    b'}' if open.in_object() => open.pop(),
                    b']' if !open.in_object() => open.pop(),
                    _ => return None,
                }
            }
            if open.in_object() {
                self.key()?;
            }
        }
    }

    /// Takes one scalar or one empty container, or opens one (`true`: its first value comes next).
    fn value(&mut self, open: &mut Open) -> Option<bool> {
        self.blank();
        match self.next()? {
            b'{' => return self.open(b'}', open),
            b'[' => return self.open(b']', open),
            b'"' => self.string(),
            b'-' => {
                let digit = self.next()?;
                self.number(digit)
            }
            digit @ b'0'..=b'9' => self.number(digit),
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"),
            b'n' => self.word(b"ull"),
            _ => None,
        }?;
        Some(false)
    }

    fn open(&mut self, end: u8, open: &mut Open) -> Option<bool> {
        let object = end == b'}';
        open.push(object)?;
        self.blank();
        if self.peek() == Some(end) {
            self.at += 1;
            open.pop();
            return Some(false);
        }
        if object {
            self.key()?;
        }
        Some(true)
    }

    fn key(&mut self) -> Option<()> {
        self.blank();
        (self.next()? == b'"').then_some(())?;
        self.string()?;
        self.blank();
        (self.next()? == b':').then_some(())
    }

    /// After the opening quote.
    fn string(&mut self) -> Option<()> {
        loop {
            let rest = &self.bytes[self.at..];
            let stop = memchr::memchr2(b'"', b'\\', rest)?;
            if rest[..stop].iter().any(|byte| *byte < 0x20) {
                return None;
            }
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Some(());
            }
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    for _ in 0..4 {
                        self.next()?.is_ascii_hexdigit().then_some(())?;
                    }
                }
                _ => return None,
            }
        }
    }

    /// After the first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then_some(())?;
        self.digits();
        Some(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(rest).then_some(())?;
        self.at += rest.len();
        Some(())
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// A JSON string, borrowed from the input where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for JsonText<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = JsonText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(JsonText(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(JsonText(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(One)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn reference(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn the_grammar() {
        for good in [
            "null",
            "true",
            "false",
            " 1 ",
            "-0",
            "0.5",
            "1e9",
            "1E-9",
            "-12.25e+3",
            "1e999",
            "\"\"",
            r#""a\"\\\/\b\f\n\r\t\u00aF""#,
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1,2]",
            r#"{"a":1,"a":[{}]}"#,
            "\t[\r\n1\n]\n",
            "\"\u{e4}\u{2028}\"",
            r#""\ud800""#,
        ] {
            assert!(embeddable(good), "{good}");
            assert!(reference(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "nul",
            "nulll",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "1 2",
            "\"",
            "\"\n\"",
            "\"\t\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u12"#,
            "[",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{a:1}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1]"#,
            "[1}",
            "'a'",
            "\u{feff}1",
            "NaN",
        ] {
            assert!(!embeddable(bad), "{bad}");
            assert!(!reference(bad), "{bad}");
        }
    }

    #[test]
    fn sixty_four_levels_and_no_more() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(embeddable(&nested(64)));
        assert!(!embeddable(&nested(65)));
        let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(embeddable(&objects(64)));
        assert!(!embeddable(&objects(65)));
        // Depth is about nesting, not about how many there are.
        assert!(embeddable(&format!("[{}[]]", "[],".repeat(1000))));
        assert!(!embeddable(&"[".repeat(1_000_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_agrees_with_serde_json(
            text in prop_oneof![
                r#"[\[\]{}:,"0-9a-z\\ eE.+\-\n]{0,24}"#,
                r#"(\[|\]|\{|\}|,|:|"a"|1|-2\.5e3|true|null| |\n){0,12}"#,
                ".{0,16}",
            ],
        ) {
            prop_assert_eq!(embeddable(&text), reference(&text), "{}", text);
        }
    }
}
