//! Slips of the pen: `?confrim=stream` must not quietly promise less than was asked for.

/// Whether `name` was probably meant to be `known`: other case or separators, or one letter too
/// many, too few, wrong or swapped. Names of two or three letters are too close to one another.
pub(super) fn is_slip(name: &str, known: &str) -> bool {
    let (name, known) = (plain(name), plain(known));
    name == known || (known.len() >= 4 && is_one_edit_away(&name, &known))
}

fn plain(name: &str) -> Vec<u8> {
    let letters = name.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
    letters.map(|byte| byte.to_ascii_lowercase()).collect()
}

fn is_one_edit_away(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([first, second, a_rest @ ..], [other_first, other_second, b_rest @ ..])
            if first == other_second && second == other_first && a_rest == b_rest =>
        {
            true
        }
        ([_, a_rest @ ..], [_, b_rest @ ..]) if a_rest == b_rest => true,
        ([_, a_rest @ ..], b) if a_rest == b => true,
        (a, [_, b_rest @ ..]) if a == b_rest => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_slip;

    #[test]
    fn near_misses_are_slips_and_other_words_are_not() {
        for (name, known) in [
            ("Timeout", "timeout"),
            ("max-replies", "max_replies"),
            ("maxReplies", "max_replies"),
            ("confrim", "confirm"),
            ("confirms", "confirm"),
            ("confim", "confirm"),
            ("confirn", "confirm"),
            ("timeou", "timeout"),
            ("xtimeout", "timeout"),
        ] {
            assert!(is_slip(name, known), "{name}");
        }
        for (name, known) in [
            ("", "timeout"),
            ("time", "timeout"),
            ("utm_source", "subject"),
            ("gas", "gap"),
            ("confirmation", "confirm"),
        ] {
            assert!(!is_slip(name, known), "{name}");
        }
    }
}
