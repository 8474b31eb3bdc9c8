//! The parameters of a URL's query, as they stand there.

/// Names and values, percent-encoded as they came; a name alone has an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    split(query, b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| cut(pair, b'=').unwrap_or((pair, "")))
}

/// The parts between the separators. A query is a few letters long, for which `str::split` takes more time
/// to begin than this does altogether.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, more) = match cut(text, separator) {
            Some((part, more)) => (part, Some(more)),
            None => (text, None),
        };
        rest = more;
        Some(part)
    })
}

/// What stands before the first separator, an ASCII character, and behind it.
fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_taken_apart() {
        let pairs: Vec<_> = pairs("a=1&&b&=2&c=x=y&").collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("", "2"), ("c", "x=y")]);
        assert_eq!(super::pairs("").count(), 0);
    }

    proptest! {
        #[test]
        fn it_is_what_the_standard_library_makes_of_it(query in "[a=&\u{e9}]{0,20}") {
            let expected: Vec<_> = query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect();
            prop_assert_eq!(pairs(&query).collect::<Vec<_>>(), expected);
        }
    }
}
