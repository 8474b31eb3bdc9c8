//! What a publisher expects of the stream, and how long it shall keep the message.

use std::time::Duration;

use async_nats::header::{
    HeaderMap, HeaderName, HeaderValue, NATS_EXPECTED_LAST_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM,
};

use crate::api::jetstream::versions::MESSAGE_TTL;
use crate::api::query::{Query, invalid};
use crate::config::Confirm;
use crate::nats::Nats;
use crate::problem::Problem;
use crate::subject::Name;
use crate::translate::{duration, headers as limits};

const NATS_TTL: HeaderName = HeaderName::from_static("Nats-TTL");

/// Preconditions of one publish.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expect {
    stream: Option<Name>,
    last_seq: Option<u64>,
    last_subject_seq: Option<u64>,
    ttl_s: Option<u64>,
}

impl Expect {
    /// Reads them, which only mean something where a stream answers. A route that names its stream
    /// keeps it.
    pub(super) fn read(
        query: &Query<'_>,
        confirm: Confirm,
        of_route: Option<&Name>,
    ) -> Result<Self, Problem> {
        if confirm != Confirm::Stream {
            return refuse(query);
        }
        let asked = query.parsed("expect_stream")?;
        if let (Some(asked), Some(own)) = (&asked, of_route)
            && asked != own
        {
            return Err(invalid(
                "expect_stream",
                format!("this route stores in {own}"),
            ));
        }
        Ok(Self {
            stream: asked.or_else(|| of_route.cloned()),
            last_seq: query.number("expect_last_seq")?,
            last_subject_seq: query.number("expect_last_subject_seq")?,
            ttl_s: query.read("ttl", whole_seconds)?,
        })
    }

    /// The stream whose PubAck counts; any where it is none.
    pub(super) fn stream(&self) -> Option<&str> {
        self.stream.as_ref().map(Name::as_str)
    }

    /// Adds them to the message.
    pub(super) fn write(
        &self,
        headers: &mut Option<HeaderMap>,
        nats: &Nats,
    ) -> Result<(), Problem> {
        if let Some(stream) = self.stream() {
            insert(headers, NATS_EXPECTED_STREAM, stream);
        }
        for (name, number) in [
            (NATS_EXPECTED_LAST_SEQUENCE, self.last_seq),
            (NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, self.last_subject_seq),
            (NATS_TTL, self.ttl_s),
        ] {
            if let Some(number) = number {
                insert(headers, name, itoa::Buffer::new().format(number));
            }
        }
        if self.ttl_s.is_some() {
            MESSAGE_TTL.require(nats)?;
        }
        if *self != Self::default() {
            limits::check(headers.as_ref())?;
        }
        Ok(())
    }
}

fn refuse(query: &Query<'_>) -> Result<Expect, Problem> {
    let only = [
        "expect_stream",
        "expect_last_seq",
        "expect_last_subject_seq",
        "ttl",
    ];
    match only.into_iter().find(|name| query.get(name).is_some()) {
        Some(name) => Err(invalid(name, "it needs confirm=stream")),
        None => Ok(Expect::default()),
    }
}

fn whole_seconds(text: &str) -> Result<u64, String> {
    let ttl = duration::parse(text).map_err(|error| error.to_string())?;
    if ttl < Duration::from_secs(1) || ttl.subsec_nanos() != 0 {
        return Err("it is at least one second, in whole seconds".to_owned());
    }
    Ok(ttl.as_secs())
}

fn insert(headers: &mut Option<HeaderMap>, name: HeaderName, value: &str) {
    let value: HeaderValue = value.parse().expect("a stream's name or a number");
    headers.get_or_insert_default().insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::query::Params;
    use crate::problem::Code;

    fn read(raw: &str, confirm: Confirm, of_route: Option<&Name>) -> Result<Expect, Problem> {
        let params = Params::built_in(&super::super::PARAMS);
        let query = Query::parse(Some(raw), &params).unwrap();
        Expect::read(&query, confirm, of_route)
    }

    #[test]
    fn preconditions_are_read() {
        let raw = "expect_stream=ORDERS&expect_last_seq=0&expect_last_subject_seq=7&ttl=1m";
        let expect = read(raw, Confirm::Stream, None).unwrap();
        assert_eq!(expect.stream(), Some("ORDERS"));
        assert_eq!(
            (expect.last_seq, expect.last_subject_seq),
            (Some(0), Some(7))
        );
        assert_eq!(expect.ttl_s, Some(60));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (raw, confirm) in [
            ("ttl=1s", Confirm::Server),
            ("expect_stream=A", Confirm::None),
            ("ttl=500ms", Confirm::Stream),
            ("ttl=1500ms", Confirm::Stream),
            ("ttl=0s", Confirm::Stream),
            ("ttl=5", Confirm::Stream),
            ("expect_stream=a.b", Confirm::Stream),
            ("expect_stream=", Confirm::Stream),
            ("expect_last_seq=-1", Confirm::Stream),
            ("expect_last_seq=", Confirm::Stream),
            (
                "expect_last_subject_seq=18446744073709551616",
                Confirm::Stream,
            ),
        ] {
            let problem = read(raw, confirm, None).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidParameter, "{raw}");
        }
    }

    #[test]
    fn a_route_keeps_its_stream() {
        let own = Name::parse("ORDERS").unwrap();
        let expect = read("", Confirm::Stream, Some(&own)).unwrap();
        assert_eq!(expect.stream(), Some("ORDERS"));
        assert!(read("expect_stream=ORDERS", Confirm::Stream, Some(&own)).is_ok());
        assert!(read("expect_stream=OTHER", Confirm::Stream, Some(&own)).is_err());
        assert_eq!(
            read("", Confirm::Server, Some(&own)).unwrap(),
            Expect::default()
        );
    }
}
