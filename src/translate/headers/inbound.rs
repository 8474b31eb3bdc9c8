//! HTTP to NATS.

use async_nats::header::{
    HeaderMap as NatsHeaders, HeaderName as NatsName, HeaderValue as NatsValue,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    HeaderError, Mapped, PREFIX, Rules, is_steering, nats_name, nats_value, parameter_for,
    set_message_id,
};
use crate::translate::{ContextHeader, is_traceparent};

const CONTENT_TYPE: NatsName = NatsName::from_static("Content-Type");
const TRACEPARENT: NatsName = NatsName::from_static("traceparent");
const TRACESTATE: NatsName = NatsName::from_static("tracestate");
const BAGGAGE: NatsName = NatsName::from_static("baggage");

/// `traceparent`, `tracestate` and `baggage`, each under its plain and its prefixed name.
static CONTEXT: [[HeaderName; 2]; 3] = [
    [
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("natsh-traceparent"),
    ],
    [
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("natsh-tracestate"),
    ],
    [
        HeaderName::from_static("baggage"),
        HeaderName::from_static("natsh-baggage"),
    ],
];

/// The NATS headers for a request; `None`, without any allocation, where nothing is mapped.
///
/// # Errors
///
/// When a header is not allowed, not valid, or there are too many.
pub fn to_nats(http: &HeaderMap, rules: &Rules) -> Result<Option<NatsHeaders>, HeaderError> {
    to_nats_bound(http, rules, |_| None)
}

/// As [`to_nats`], with the values of the captures that the route's own headers use.
///
/// # Errors
///
/// When a header is not allowed, not valid, or there are too many.
pub fn to_nats_bound<'v>(
    http: &HeaderMap,
    rules: &Rules,
    value_of: impl Fn(&str) -> Option<&'v str>,
) -> Result<Option<NatsHeaders>, HeaderError> {
    let mut mapped = Mapped::default();
    let mut seen = Initials::default();
    for (name, value) in http {
        seen.add(name);
        map_one(name, value, rules, &mut mapped)?;
    }
    map_content_type(http, rules, &mut mapped)?;
    // `traceparent`, `tracestate`, `baggage`, and all of them after `natsh-`.
    if seen.any_of(b"tbn") {
        map_trace(http, rules, &mut mapped)?;
    }
    map_set(rules, value_of, &mut mapped)?;
    if seen.any_of(b"i") {
        map_message_id(http, rules, &mut mapped)?;
    }
    Ok(mapped.headers)
}

/// The first letters of a request's header names. To look for a name that is not there costs more than
/// all the rest.
#[derive(Clone, Copy, Default)]
struct Initials(u32);

impl Initials {
    fn add(&mut self, name: &HeaderName) {
        self.0 |= Self::bit(name.as_str().as_bytes().first().copied().unwrap_or(0));
    }

    fn any_of(self, letters: &[u8]) -> bool {
        letters
            .iter()
            .any(|letter| self.0 & Self::bit(*letter) != 0)
    }

    /// HTTP's names are in lower case here; what is no letter shares a bit with one.
    const fn bit(letter: u8) -> u32 {
        1 << (letter & 31)
    }
}

/// Most headers of a request are not for us; the first byte tells so.
fn map_one(
    name: &HeaderName,
    value: &HeaderValue,
    rules: &Rules,
    mapped: &mut Mapped,
) -> Result<(), HeaderError> {
    let text = name.as_str();
    match text.as_bytes().first() {
        Some(b'n') if text.starts_with(PREFIX) => {
            // The context has its place, under whatever name it comes.
            if ContextHeader::of(&text[PREFIX.len()..]).is_some() {
                return Ok(());
            }
            let nats = train_case(&text[PREFIX.len()..]);
            return map_client(&nats, name, value, rules, mapped);
        }
        Some(b'n' | b'k' | b's') if is_steering(text) => {
            return Err(HeaderError::NotAllowed {
                name: text.to_owned(),
                instead: parameter_for(text),
            });
        }
        Some(b'c') if text.starts_with("ce-") => {
            return map_client(text, name, value, rules, mapped);
        }
        _ => {}
    }
    match rules.forward.iter().find(|(from, _)| from == name) {
        Some((_, to)) if !is_general(name) && !rules.sets(text) => {
            mapped.push(to.clone(), value_of_http(text, value)?)
        }
        _ => Ok(()),
    }
}

/// Mapped whether a route forwards it or not.
fn is_general(name: &HeaderName) -> bool {
    name == header::CONTENT_TYPE
        || matches!(name.as_str(), "traceparent" | "tracestate" | "baggage")
}

fn map_client(
    nats: &str,
    name: &HeaderName,
    value: &HeaderValue,
    rules: &Rules,
    mapped: &mut Mapped,
) -> Result<(), HeaderError> {
    let nats_name = nats_name(nats)?;
    if rules.sets(nats) {
        return Ok(());
    }
    mapped.push(nats_name, value_of_http(name.as_str(), value)?)
}

/// `NatsH-Content-Type` is the more explicit word and wins.
fn map_content_type(
    http: &HeaderMap,
    rules: &Rules,
    mapped: &mut Mapped,
) -> Result<(), HeaderError> {
    let Some(value) = http.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let taken = mapped
        .headers
        .as_ref()
        .is_some_and(|headers| headers.get(CONTENT_TYPE).is_some());
    if taken || rules.content_type_stays || is_form(value) || rules.sets("content-type") {
        return Ok(());
    }
    mapped.push(CONTENT_TYPE, value_of_http("content-type", value)?)
}

/// What curl says of every body it was not told more about.
fn is_form(content_type: &HeaderValue) -> bool {
    let essence = content_type
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Without a whole `traceparent` a `tracestate` has no meaning.
fn map_trace(http: &HeaderMap, rules: &Rules, mapped: &mut Mapped) -> Result<(), HeaderError> {
    let parent = traceparent_of(http).filter(|_| !rules.sets("traceparent"));
    if let Some(parent) = parent {
        mapped.push(TRACEPARENT, nats_value("traceparent", parent)?)?;
        push_all(http, &CONTEXT[1], &TRACESTATE, rules, mapped)?;
    }
    push_all(http, &CONTEXT[2], &BAGGAGE, rules, mapped)
}

/// The caller's `traceparent`: the only one of its name, and whole. `NatsH-Traceparent` is another way to
/// write it.
#[must_use]
pub fn traceparent_of(http: &HeaderMap) -> Option<&str> {
    CONTEXT[0].iter().find_map(|name| only_parent(http, name))
}

fn only_parent<'h>(http: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut parents = http.get_all(name).iter();
    let one = parents.next()?.to_str().ok()?;
    (parents.next().is_none() && is_traceparent(one)).then_some(one)
}

/// Takes `traceparent` and `tracestate` out of a request, under every name they may come.
pub fn forget_trace(http: &mut HeaderMap) {
    for name in CONTEXT[..2].iter().flatten() {
        http.remove(name);
    }
}

/// Takes the whole trace context out of a request, under every name it may come.
pub fn forget_context(http: &mut HeaderMap) {
    for name in CONTEXT.iter().flatten() {
        http.remove(name);
    }
}

/// The values under the plain name, else those under the prefixed one.
fn push_all(
    http: &HeaderMap,
    names: &[HeaderName; 2],
    nats: &NatsName,
    rules: &Rules,
    mapped: &mut Mapped,
) -> Result<(), HeaderError> {
    let Some(name) = names.iter().find(|name| http.contains_key(*name)) else {
        return Ok(());
    };
    if rules.sets(nats.as_ref()) {
        return Ok(());
    }
    for value in http.get_all(name) {
        mapped.push(nats.clone(), value_of_http(name.as_str(), value)?)?;
    }
    Ok(())
}

fn map_set<'v>(
    rules: &Rules,
    value_of: impl Fn(&str) -> Option<&'v str>,
    mapped: &mut Mapped,
) -> Result<(), HeaderError> {
    for (name, template) in &rules.set {
        if let Some(text) = template.render(&value_of) {
            mapped.push(name.clone(), nats_value(name.as_ref(), &text)?)?;
        }
    }
    Ok(())
}

fn map_message_id(http: &HeaderMap, rules: &Rules, mapped: &mut Mapped) -> Result<(), HeaderError> {
    const NAME: &str = "Idempotency-Key";
    let mut keys = http.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Ok(());
    };
    if keys.next().is_some() {
        return Err(HeaderError::Invalid {
            name: NAME.to_owned(),
            why: "is there more than once",
        });
    }
    // What is not ASCII becomes an empty text, which is refused with the same words.
    let key = key.to_str().unwrap_or_default();
    set_message_id(&mut mapped.headers, rules.message_id_prefix(), key, NAME)
}

fn value_of_http(name: &str, value: &HeaderValue) -> Result<NatsValue, HeaderError> {
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| HeaderError::Invalid {
        name: name.to_owned(),
        why: "has a value that is not UTF-8",
    })?;
    nats_value(name, text)
}

/// `order-id` becomes `Order-Id`: HTTP has no case in names, NATS has.
fn train_case(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|letter| {
            let letter = if upper {
                letter.to_ascii_uppercase()
            } else {
                letter
            };
            upper = letter == '-';
            letter
        })
        .collect()
}

#[cfg(test)]
mod tests;
