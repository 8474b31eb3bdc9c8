//! What a stream says besides messages: that some are missing, and that it ends.
//!
//! The same JSON in every form, so that one handler reads it wherever it comes from.

/// Why a stream ends, where natsway ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// As many messages were sent as were asked for.
    Max,
    /// A replay has come to the present.
    CaughtUp,
    /// natsway is shutting down.
    Draining,
    /// The client reads too slowly, and asked to be ended for it, or gives no sign of reading at all.
    SlowClient,
    /// The stream is as old as a stream may be.
    MaxAge,
    /// NATS denies the subscription from now on.
    PermissionDenied,
    /// The stream that was replayed is gone.
    StreamDeleted,
    /// The consumer that was read is gone.
    ConsumerDeleted,
}

impl EndReason {
    /// The word in the notice.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::CaughtUp => "caught-up",
            Self::Draining => "draining",
            Self::SlowClient => "slow-client",
            Self::MaxAge => "max-age",
            Self::PermissionDenied => "permission-denied",
            Self::StreamDeleted => "stream-deleted",
            Self::ConsumerDeleted => "consumer-deleted",
        }
    }

    /// The code that closes a WebSocket: 1000 for what was asked for, 1001 where another connection
    /// goes on, 1008 where none would.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Max | Self::CaughtUp => 1000,
            Self::Draining | Self::MaxAge => 1001,
            Self::PermissionDenied | Self::StreamDeleted | Self::ConsumerDeleted => 1008,
            Self::SlowClient => 1013,
        }
    }
}

/// The code that closes a WebSocket without in-band notices where messages are missing.
pub const CLOSE_GAP: u16 = 4000;

/// Messages that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many, where that is known.
    pub dropped: Option<u64>,
    /// Why.
    pub reason: &'static str,
    /// The first and the last sequence that is missing, where they have numbers.
    pub range: Option<(u64, u64)>,
}

impl Gap {
    /// A gap of unknown size.
    #[must_use]
    pub const fn unknown(reason: &'static str) -> Self {
        Self {
            dropped: None,
            reason,
            range: None,
        }
    }
}

/// Something a stream says in-band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Messages are missing here.
    Gap(Gap),
    /// Nothing follows.
    End(EndReason),
}

impl Notice {
    /// The word for it: the `event:` of SSE, the `op` of a multiplexed WebSocket.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Gap(_) => "gap",
            Self::End(_) => "end",
        }
    }

    /// Appends the notice as one JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"notice\":\"");
        out.extend_from_slice(self.name().as_bytes());
        out.extend_from_slice(b"\",");
        self.write_members(out);
        out.push(b'}');
    }

    /// Appends its members only, for an object with members of its own before them.
    pub fn write_members(&self, out: &mut Vec<u8>) {
        let reason = match self {
            Self::Gap(gap) => {
                write_number("dropped", gap.dropped, out);
                if let Some((from, to)) = gap.range {
                    write_number("from_seq", Some(from), out);
                    write_number("to_seq", Some(to), out);
                }
                gap.reason
            }
            Self::End(reason) => reason.as_str(),
        };
        out.extend_from_slice(b"\"reason\":\"");
        out.extend_from_slice(reason.as_bytes());
        out.push(b'"');
    }
}

fn write_number(name: &str, number: Option<u64>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    match number {
        Some(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(notice: Notice) -> String {
        let mut out = Vec::new();
        notice.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn notices_are_written_as_the_contract_shows_them() {
        let slow = Gap {
            dropped: Some(12),
            reason: "slow-client",
            range: None,
        };
        assert_eq!(
            json(Notice::Gap(slow)),
            r#"{"notice":"gap","dropped":12,"reason":"slow-client"}"#
        );
        assert_eq!(
            json(Notice::Gap(Gap::unknown("reconnected"))),
            r#"{"notice":"gap","dropped":null,"reason":"reconnected"}"#
        );
        let trimmed = Gap {
            dropped: Some(3),
            reason: "trimmed",
            range: Some((4, 6)),
        };
        assert_eq!(
            json(Notice::Gap(trimmed)),
            r#"{"notice":"gap","dropped":3,"from_seq":4,"to_seq":6,"reason":"trimmed"}"#
        );
        assert_eq!(
            json(Notice::End(EndReason::CaughtUp)),
            r#"{"notice":"end","reason":"caught-up"}"#
        );
    }

    #[test]
    fn close_codes_are_those_of_the_contract() {
        for (reason, code) in [
            (EndReason::Max, 1000),
            (EndReason::Draining, 1001),
            (EndReason::PermissionDenied, 1008),
            (EndReason::SlowClient, 1013),
        ] {
            assert_eq!(reason.close_code(), code, "{reason:?}");
        }
    }
}
