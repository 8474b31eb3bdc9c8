//! The `headers` member of a batch line and of a WebSocket frame, in exact case.

use std::borrow::Cow;
use std::fmt;

use async_nats::header::{HeaderMap, HeaderName};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{HeaderError, Mapped, nats_name, nats_value};
use crate::translate::{ClientContext, ContextHeader, JsonText, is_traceparent};

/// An object of names with a string or an array of strings each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonHeaders<'a> {
    pairs: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>,
}

impl JsonHeaders<'_> {
    /// The NATS headers; `None` where there are none.
    ///
    /// # Errors
    ///
    /// When a header is not allowed, not valid, or there are too many.
    pub fn to_nats(&self, context: ClientContext) -> Result<Option<HeaderMap>, HeaderError> {
        let mut mapped = Mapped::default();
        for (name, values) in &self.pairs {
            if let Some(header) = ContextHeader::of(name) {
                if context == ClientContext::Kept {
                    push_context(&mut mapped, header, values)?;
                }
                continue;
            }
            let nats = nats_name(name)?;
            for value in values {
                mapped.push(nats.clone(), nats_value(name, value)?)?;
            }
        }
        Ok(mapped.headers)
    }
}

/// Of several parents the first that is whole counts, in whatever case its name is.
fn push_context(
    mapped: &mut Mapped,
    header: ContextHeader,
    values: &[Cow<'_, str>],
) -> Result<(), HeaderError> {
    let name = header.as_str();
    let nats = HeaderName::from_static(name);
    for value in values {
        let is_parent = header == ContextHeader::Parent;
        if is_parent && (mapped.has(&nats) || !is_traceparent(value)) {
            continue;
        }
        mapped.push(nats.clone(), nats_value(name, value)?)?;
    }
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonHeaders<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = JsonHeaders<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and strings or arrays of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((JsonText(name), Values(values))) = map.next_entry()? {
                    pairs.push((name, values));
                }
                Ok(JsonHeaders { pairs })
            }
        }
        from.deserialize_map(Object)
    }
}

struct Values<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Values<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Values<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Values(vec![Cow::Borrowed(text)]))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Values(vec![Cow::Owned(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(JsonText(text)) = seq.next_element()? {
                    values.push(text);
                }
                Ok(Values(values))
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nats(json: &str) -> Result<Option<HeaderMap>, HeaderError> {
        serde_json::from_str::<JsonHeaders<'_>>(json)
            .unwrap()
            .to_nats(ClientContext::Kept)
    }

    #[test]
    fn a_trace_context_is_one_in_any_case_and_only_where_clients_are_trusted() {
        let parent = |span: &str| format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01");
        let (one, other) = (parent("b7ad6b7169203331"), parent("00f067aa0ba902b7"));
        let json = format!(
            r#"{{"TraceParent":["damaged","{one}"],"traceparent":"{other}","TRACESTATE":"a=1","Baggage":"b=2","A":"1"}}"#
        );
        let headers = nats(&json).unwrap().unwrap();
        let parents: Vec<_> = headers
            .get_all("traceparent")
            .map(ToString::to_string)
            .collect();
        assert_eq!(parents, [one]);
        assert_eq!(headers.get("tracestate").unwrap().as_str(), "a=1");
        assert_eq!(headers.get("baggage").unwrap().as_str(), "b=2");
        assert_eq!(headers.len(), 4);
        let members: JsonHeaders<'_> = serde_json::from_str(&json).unwrap();
        let headers = members.to_nats(ClientContext::Dropped).unwrap().unwrap();
        assert_eq!(headers.len(), 1);
        assert!(headers.get("A").is_some());
    }

    #[test]
    fn names_keep_their_case_and_values_their_order() {
        let headers = nats(r#"{"X-oDD":"1","Many":["a","b\u0041"],"traceparent":"damaged"}"#)
            .unwrap()
            .unwrap();
        assert_eq!(headers.get("X-oDD").unwrap().as_str(), "1");
        let many: Vec<_> = headers.get_all("Many").map(ToString::to_string).collect();
        assert_eq!(many, ["a", "bA"]);
        assert_eq!(headers.len(), 2);
        assert_eq!(nats("{}").unwrap(), None);
        assert_eq!(nats(r#"{"A":[]}"#).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        for json in [
            r#"{"":"x"}"#,
            r#"{"a b":"x"}"#,
            r#"{"A":"x\r\nB: c"}"#,
            r#"{"A\n":"x"}"#,
            r#"{"A":"\u0000"}"#,
        ] {
            assert!(
                matches!(nats(json), Err(HeaderError::Invalid { .. })),
                "{json}"
            );
        }
        for json in [
            r#"{"nAts-Rollup":"all"}"#,
            r#"{"Status":"503"}"#,
            r#"{"kv-operation":"DEL"}"#,
        ] {
            assert!(
                matches!(nats(json), Err(HeaderError::NotAllowed { .. })),
                "{json}"
            );
        }
        let big = format!(r#"{{"A":"{}"}}"#, "x".repeat(8192));
        assert_eq!(nats(&big), Err(HeaderError::TooLarge));
        for json in [
            r#"{"A":1}"#,
            r#"{"A":[1]}"#,
            r#"{"A":null}"#,
            "[]",
            r#""a""#,
        ] {
            assert!(
                serde_json::from_str::<JsonHeaders<'_>>(json).is_err(),
                "{json}"
            );
        }
    }
}
