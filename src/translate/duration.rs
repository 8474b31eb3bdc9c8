//! Durations as people write them: `250ms`, `2s`, `1m`, `1h`.

use std::time::Duration;

/// The longest duration. A point in time that far ahead can still be computed without overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number alone says nothing about its unit.
    #[error("a duration needs a unit: `{0}ms` or `{0}s`")]
    NoUnit(u64),
    /// Anything else.
    #[error("a duration is a whole number with a unit: `250ms`, `2s`, `1m` or `1h`")]
    Malformed,
    /// More than [`DURATION_MAX`].
    #[error("a duration is at most 366 days (`8784h`)")]
    TooLong,
}

/// Reads a duration.
///
/// # Errors
///
/// When the unit is missing or unknown, or the duration is too long.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unit_at = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    if digits.is_empty() {
        return Err(DurationError::Malformed);
    }
    // Digits alone can fail only by being too many.
    let number: u64 = digits.parse().map_err(|_| DurationError::TooLong)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "" => return Err(DurationError::NoUnit(number)),
        _ => return Err(DurationError::Malformed),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        for (text, millis) in [
            ("250ms", 250),
            ("0s", 0),
            ("2s", 2000),
            ("1m", 60_000),
            ("1h", 3_600_000),
            ("007s", 7000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("8784h"), Ok(DURATION_MAX));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse("30"), Err(DurationError::NoUnit(30)));
        assert!(parse("30").unwrap_err().to_string().contains("`30s`"));
        for text in [
            "", "s", "-1s", "+1s", "1.5s", "1 s", " 1s", "1s ", "1S", "1d", "1h30m", "\u{661}s",
        ] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text:?}");
        }
        for text in ["8785h", "18446744073709551615h", "99999999999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_can_be_waited_for(text in "[0-9]{0,22}(ms|s|m|h)") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(std::time::Instant::now().checked_add(duration).is_some());
            }
        }
    }
}
