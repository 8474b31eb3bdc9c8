//! Sizes in bytes as people write them: `65536`, `64KiB`, `1MiB`.

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Neither a number nor a number with a known unit.
    #[error(
        "a size is a whole number of bytes, or one with a unit: `65536`, `64KiB`, `1MiB`, `1GiB`"
    )]
    Malformed,
    /// More than the machine can count.
    #[error("the size is too large")]
    TooLarge,
}

/// Reads a size. Decimal units (`kB`, `MB`) are refused: half of their users mean the binary ones.
///
/// # Errors
///
/// When the unit is unknown or the size too large.
pub fn parse(text: &str) -> Result<usize, SizeError> {
    let unit_at = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    if digits.is_empty() {
        return Err(SizeError::Malformed);
    }
    let unit_bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(SizeError::Malformed),
    };
    let number: usize = digits.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(unit_bytes).ok_or(SizeError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("12B", 12),
            ("64KiB", 65536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "KiB", "1kB", "1MB", "1 MiB", "-1", "1.5MiB", "1mib", "auto",
        ] {
            assert_eq!(parse(text), Err(SizeError::Malformed), "{text:?}");
        }
        for text in ["99999999999999999999", "18446744073709551615KiB"] {
            assert_eq!(parse(text), Err(SizeError::TooLarge), "{text}");
        }
    }
}
