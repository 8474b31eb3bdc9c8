//! A header block as it is stored: text, one header a line.

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers in a block that begins with `NATS/1.0`. Any publisher may have written it: a line that
/// is no header is left out.
#[must_use]
pub fn from_block(block: &[u8]) -> HeaderMap {
    let text = String::from_utf8_lossy(block);
    let mut headers = HeaderMap::new();
    let mut lines = text.split("\r\n");
    if !lines
        .next()
        .is_some_and(|first| first.starts_with("NATS/1.0"))
    {
        return headers;
    }
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let parsed = (
            name.parse::<HeaderName>(),
            value.trim_start_matches([' ', '\t']).parse::<HeaderValue>(),
        );
        if let (Ok(name), Ok(value)) = parsed
            && !AsRef::<str>::as_ref(&name).is_empty()
        {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_is_read_and_what_is_damaged_is_left_out() {
        let block = b"NATS/1.0\r\nOrder-Id: 7\r\nOrder-Id:8\r\nno header\r\n: x\r\na b: c\r\n\
            Lone: a\rb\r\nEmpty:\r\nUrl: http://x\r\n\r\n";
        let headers = from_block(block);
        let values: Vec<_> = headers.get_all("Order-Id").map(|v| v.as_str()).collect();
        assert_eq!(values, ["7", "8"]);
        assert_eq!(headers.get("Empty").unwrap().as_str(), "");
        assert_eq!(headers.get("Url").unwrap().as_str(), "http://x");
        assert_eq!(headers.len(), 3);
        assert!(from_block(b"").is_empty());
        assert!(from_block(b"Order-Id: 7\r\n\r\n").is_empty());
    }

    proptest! {
        #[test]
        fn no_block_is_too_strange(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_block(&block);
            let _ = from_block(&[&b"NATS/1.0\r\n"[..], &block].concat());
        }
    }
}
