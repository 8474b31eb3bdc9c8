//! OTLP's protobuf form, written field by field while a span goes on, so that nothing has to be built and
//! converted when spans are sent. Numbers are those of OTLP 1.x: `trace.proto`, `common.proto`,
//! `resource.proto`.

/// The value of an attribute.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

fn tag(to: &mut Vec<u8>, field: u32, kind: u32) {
    varint(to, u64::from(field << 3 | kind));
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

const fn varint_length(number: u64) -> usize {
    // Seven bits a byte, and zero takes one.
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// A number.
pub(super) fn number(to: &mut Vec<u8>, field: u32, number: u64) {
    tag(to, field, VARINT);
    varint(to, number);
}

/// Eight bytes.
pub(super) fn fixed64(to: &mut Vec<u8>, field: u32, number: u64) {
    tag(to, field, FIXED64);
    to.extend_from_slice(&number.to_le_bytes());
}

/// Four bytes.
pub(super) fn fixed32(to: &mut Vec<u8>, field: u32, number: u32) {
    tag(to, field, FIXED32);
    to.extend_from_slice(&number.to_le_bytes());
}

/// Bytes, text, or a message that is encoded already.
pub(super) fn bytes(to: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    head(to, field, bytes.len());
    to.extend_from_slice(bytes);
}

/// What goes before so many bytes.
pub(super) fn head(to: &mut Vec<u8>, field: u32, length: usize) {
    tag(to, field, LENGTH);
    varint(to, length as u64);
}

/// How much [`bytes()`] writes for a field below 16.
pub(super) const fn bytes_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

/// A `KeyValue` with its `AnyValue`.
pub(super) fn attribute(to: &mut Vec<u8>, field: u32, name: &str, value: Value<'_>) {
    let any = match value {
        Value::Text(text) => bytes_length(text.len()),
        Value::Number(number) => 1 + varint_length(number.cast_unsigned()),
    };
    head(to, field, bytes_length(name.len()) + bytes_length(any));
    bytes(to, 1, name.as_bytes());
    head(to, 2, any);
    match value {
        Value::Text(text) => bytes(to, 1, text.as_bytes()),
        Value::Number(value) => number(to, 3, value.cast_unsigned()),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::KeyValue;
    use opentelemetry_proto::tonic::common::v1::any_value;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_is_read(name in ".{0,300}", text in ".{0,300}", number: i64) {
            let mut span = Vec::new();
            attribute(&mut span, 9, &name, Value::Text(&text));
            attribute(&mut span, 9, &name, Value::Number(number));
            let span = Span::decode(&span[..]).unwrap();
            let value = |attribute: &KeyValue| attribute.value.clone().unwrap().value.unwrap();
            prop_assert!(span.attributes.iter().all(|attribute| attribute.key == name));
            prop_assert_eq!(value(&span.attributes[0]), any_value::Value::StringValue(text));
            prop_assert_eq!(value(&span.attributes[1]), any_value::Value::IntValue(number));
        }

        #[test]
        fn lengths_are_those_of_what_is_written(length in 0usize..70_000, wide: u64) {
            let mut written = Vec::new();
            bytes(&mut written, 15, &vec![0; length]);
            prop_assert_eq!(written.len(), bytes_length(length));
            written.clear();
            varint(&mut written, wide);
            prop_assert_eq!(written.len(), varint_length(wide));
        }
    }

    #[test]
    fn the_bounds_of_a_varint_hold() {
        for (number, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (u64::MAX, 10),
        ] {
            let mut written = Vec::new();
            varint(&mut written, number);
            assert_eq!((written.len(), varint_length(number)), (length, length));
        }
    }
}
