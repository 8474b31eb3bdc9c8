//! Values that are written as text in a configuration: durations, sizes and whatever else parses
//! from a word. Parsed once while loading; what goes out again can be loaded again.

use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::secret::REDACTED;
use crate::subject::{Name, SubjectPattern, SubjectTemplate, Template};

/// Gives a type with `FromStr` and `Display` the three traits a configuration needs.
macro_rules! written {
    ($type:ty, $name:literal, $says:literal, [$($example:literal),*]) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any($crate::config::text::Words::new($says, <$type as std::str::FromStr>::from_str))
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": ["string", "integer"],
                    "title": $name,
                    "description": $says,
                    "examples": [$($example),*],
                })
            }
        }
    };
}
pub(crate) use written;

/// Reads a string, or a number as if it had been quoted: `timeout: 0` and `workers: 4` are natural to write.
pub(crate) struct Words<F, T, E> {
    expects: &'static str,
    parse: F,
    made: PhantomData<fn() -> Result<T, E>>,
}

impl<T, E, F: FnOnce(&str) -> Result<T, E>> Words<F, T, E> {
    pub(crate) fn new(expects: &'static str, parse: F) -> Self {
        Self {
            expects,
            parse,
            made: PhantomData,
        }
    }
}

impl<T, X: fmt::Display, F: FnOnce(&str) -> Result<T, X>> de::Visitor<'_> for Words<F, T, X> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// A duration, as `250ms`, `2s` or `1h`; `0` is none.
#[derive(Clone, Copy)]
pub(crate) struct DurationText(Duration);

impl FromStr for DurationText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        crate::translate::duration::parse(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole milliseconds, because nothing finer can be written.
        let ms = self.0.as_millis();
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit)) {
            _ if ms == 0 => f.write_str("0s"),
            Some((unit, name)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

written!(
    DurationText,
    "Duration",
    "a duration such as 250ms, 2s or 1h",
    ["250ms", "2s", "1h"]
);

/// A size in bytes, plain or as `64KiB`, `1MiB`.
#[derive(Clone, Copy)]
pub(crate) struct SizeText(u64);

impl FromStr for SizeText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = crate::translate::size::parse(text).map_err(|error| error.to_string())?;
        u64::try_from(bytes)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units
            .into_iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

written!(
    SizeText,
    "Size",
    "a size in bytes such as 65536, 64KiB or 1MiB",
    ["64KiB", "1MiB"]
);

/// A duration as text, for `Display` elsewhere in the configuration.
pub(crate) fn show_duration(duration: Duration) -> String {
    DurationText(duration).to_string()
}

/// A size as text.
pub(crate) fn show_size(bytes: u64) -> String {
    SizeText(bytes).to_string()
}

/// A size from text.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    text.parse().map(|SizeText(bytes)| bytes)
}

macro_rules! with {
    ($name:ident, $plain:ty, $text:ident) => {
        /// For `#[serde(with = …)]`.
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(
                value: &$plain,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                $text((*value).try_into().map_err(serde::ser::Error::custom)?).serialize(to)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<$plain, D::Error> {
                let $text(value) = $text::deserialize(from)?;
                value.try_into().map_err(de::Error::custom)
            }
        }
    };
}
with!(duration, Duration, DurationText);
with!(size, u64, SizeText);
with!(size_usize, usize, SizeText);

/// For `#[serde(with = …)]` on a duration that may be absent.
pub(crate) mod duration_option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(DurationText).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<DurationText>::deserialize(from)?.map(|DurationText(duration)| duration))
    }
}

/// A schema for a type of the crate that reads itself from a string.
macro_rules! string_schema {
    ($($type:ty, $name:literal, $says:literal, [$($example:literal),*];)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "title": $name, "description": $says, "examples": [$($example),*] })
            }
        }
    )*};
}
string_schema! {
    SubjectPattern, "SubjectPattern", "a subject that may hold `*` and `>`", ["orders.>"];
    SubjectTemplate, "SubjectTemplate", "a subject that may hold `{captures}` of the path", ["inventory.stock.{sku}"];
    Name, "Name", "the name of a stream, a consumer or a queue group", ["ORDERS"];
}

/// A header's value, which may hold `{captures}` of the path and `{query.name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueTemplate(pub Template);

impl FromStr for ValueTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err(
                "a header's value cannot hold a line break or a control character".to_owned(),
            );
        }
        if text == REDACTED {
            return Err(
                "stands for a value that was not printed; put the value in its place".to_owned(),
            );
        }
        Template::parse(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for ValueTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

written!(
    ValueTemplate,
    "ValueTemplate",
    "text that may hold `{captures}` of the path and `{query.name}`",
    ["web-{sku}"]
);

/// A field that is an object, or `false` for an object that is switched off.
pub(crate) trait Switched: Default {
    /// The same object, off.
    fn off() -> Self;
}

/// For `#[serde(with = …)]` on an endpoint: `publish: false` reads as `publish: { enabled: false }`.
pub(crate) struct Switch<T>(PhantomData<T>);

impl<T: Serialize> Switch<T> {
    pub(crate) fn serialize<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }
}

impl<'de, T: Switched + Deserialize<'de>> Switch<T> {
    pub(crate) fn deserialize<D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        from.deserialize_any(Self(PhantomData))
    }
}

impl<'de, T: Switched + Deserialize<'de>> de::Visitor<'de> for Switch<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("false, or the endpoint's settings")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<T, E> {
        Ok(if on { T::default() } else { T::off() })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map))
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrFalse", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [settings, { "type": "boolean" }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same(ms in 0_u64..10_000_000_000, bytes in 0_u64..1 << 40) {
            let duration = Duration::from_millis(ms);
            let DurationText(again) = show_duration(duration).parse().unwrap();
            prop_assert_eq!(again, duration);
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn it_is_shown_in_the_largest_unit_that_fits() {
        for (text, shown) in [
            ("1500ms", "1500ms"),
            ("60s", "1m"),
            ("120m", "2h"),
            ("0", "0s"),
            ("90s", "90s"),
        ] {
            assert_eq!(text.parse::<DurationText>().unwrap().to_string(), shown);
        }
        assert_eq!(
            (show_size(1 << 20), show_size(1500)),
            ("1MiB".to_owned(), "1500".to_owned())
        );
    }
}
