//! Every problem code with its status, title, who fails by default, what became of the message and
//! whether a retry is safe. A new kind of failure is a new row here and a row in `docs/problems.md`.

use http::StatusCode;

use super::{Outcome, Source};

/// A row of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The word in the body.
    pub code: &'static str,
    /// The status, unless the problem overrides it.
    pub status: StatusCode,
    /// A fixed short sentence.
    pub title: &'static str,
    /// The sentence used where no better one is known.
    pub detail: &'static str,
    /// Who fails by default.
    pub source: Source,
    /// What became of the message by default.
    pub outcome: Outcome,
    /// Whether the cause passes by itself.
    pub passing: bool,
    /// The retry advice by default.
    pub retryable: bool,
}

macro_rules! catalogue {
    ($($variant:ident $code:literal $status:literal $source:ident $outcome:ident $passing:literal $title:literal $detail:literal;)*) => {
        /// The stable words for errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The row of this code.
            #[must_use]
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$variant => const { &Entry {
                        code: $code,
                        status: match StatusCode::from_u16($status) {
                            Ok(status) => status,
                            Err(_) => panic!("a status of the catalogue is out of range"),
                        },
                        title: $title,
                        detail: $detail,
                        source: Source::$source,
                        outcome: Outcome::$outcome,
                        passing: $passing,
                        retryable: $passing && matches!(Outcome::$outcome, Outcome::NotSent),
                    } },)*
                }
            }

            /// The word in the body.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                self.entry().code
            }
        }
    };
}

catalogue! {
    InvalidSubject "invalid-subject" 400 Client NotSent false "The subject is not legal"
        "a subject is one or more tokens of printable ASCII without blanks, separated by single dots; a URL holds it percent-encoded, once";
    WildcardNotAllowed "wildcard-not-allowed" 400 Client NotSent false "A wildcard is not allowed here"
        "a message goes to one literal subject; `*` and `>` are for subscriptions";
    InvalidParameter "invalid-parameter" 400 Client NotSent false "A query parameter is not valid"
        "check the query parameters";
    InvalidHeader "invalid-header" 400 Client NotSent false "A header is not valid"
        "check the request headers";
    HeaderNotAllowed "header-not-allowed" 400 Client NotSent false "A header may not be set"
        "headers that steer NATS are set by parameters";
    InvalidBody "invalid-body" 400 Client NotSent false "The body is not valid"
        "check the request body";
    SubjectNotAllowed "subject-not-allowed" 403 Client NotSent false "The subject is not allowed here"
        "the subject is reserved, or this route's `subjects` do not cover it";
    NatsPermissionDenied "nats-permission-denied" 403 Nats Rejected false "NATS denied it"
        "the NATS user of this natsway has no permission for the subject";
    ManagementDisabled "management-disabled" 403 Bridge NotSent false "Management is switched off"
        "set `api.manage: true` to create, change or delete streams and consumers over HTTP";
    OriginNotAllowed "origin-not-allowed" 403 Client NotSent false "The origin is not allowed"
        "add the page's origin to `cors.origins`";
    AckTokenInvalid "ack-token-invalid" 403 Client NotSent false "The ack token is not valid"
        "use the token exactly as it came with the message, at a natsway that shares the key";
    NotFound "not-found" 404 Client NotSent false "There is nothing here"
        "no route has this path";
    NoStream "no-stream" 404 Nats Rejected false "No stream holds the subject"
        "create a stream that captures the subject, or publish with confirm=server";
    StreamNotFound "stream-not-found" 404 Nats Rejected false "The stream does not exist"
        "no stream has this name";
    ConsumerNotFound "consumer-not-found" 404 Nats Rejected false "The consumer does not exist"
        "no consumer of the stream has this name";
    MessageNotFound "message-not-found" 404 Nats Rejected false "The message does not exist"
        "the stream holds no such message";
    MethodNotAllowed "method-not-allowed" 405 Client NotSent false "The method is not allowed here"
        "see the Allow header";
    NotAcceptable "not-acceptable" 406 Client NotSent false "No acceptable form"
        "see the forms this endpoint can answer in";
    BodyTimeout "body-timeout" 408 Client NotSent false "The body came too slowly"
        "send the body within the time limit";
    Conflict "conflict" 409 Client Rejected false "It conflicts with what is there"
        "see the detail";
    AckTokenExpired "ack-token-expired" 410 Client NotSent false "The ack token has expired"
        "the message is delivered again after the consumer's ack wait";
    WrongLastSequence "wrong-last-sequence" 412 Nats Rejected false "The last sequence is another"
        "somebody else wrote first; read the current state and try again";
    WrongStream "wrong-stream" 412 Nats Rejected false "Another stream holds the subject"
        "expect_stream names a stream that does not hold the subject";
    PayloadTooLarge "payload-too-large" 413 Client NotSent false "The payload is too large"
        "send less than the limit; headers count";
    SubjectTooLong "subject-too-long" 414 Client NotSent false "The subject is too long"
        "a subject has at most 512 bytes";
    UnsupportedMediaType "unsupported-media-type" 415 Client NotSent false "The media type is not supported"
        "send the body as it is, without Content-Encoding";
    HostNotAllowed "host-not-allowed" 421 Client NotSent false "The host is not one of ours"
        "use a loopback name, or add the host to `listen.hosts`";
    BatchIncomplete "batch-incomplete" 422 Client Unknown false "Not every line was published"
        "each line in `failed` has its own outcome; that of the batch is `unknown` where a part of it was published and NATS refused none";
    RateLimited "rate-limited" 429 Client NotSent true "Too many requests"
        "slow down";
    TooManyStreams "too-many-streams" 429 Client NotSent true "Too many open streams"
        "close a stream before opening another";
    HeadersTooLarge "headers-too-large" 431 Client NotSent false "The headers are too large"
        "at most 64 headers and 8 KiB are mapped into a message";
    ClientClosed "client-closed" 499 Client Unknown false "The client went away"
        "the connection was closed before the answer";
    Internal "internal" 500 Bridge Unknown false "natsway failed"
        "this is a bug; the log has more under the request id";
    NotSupported "not-supported" 501 Nats NotSent false "The NATS server is too old for this"
        "upgrade the NATS server";
    ConfirmUnavailable "confirm-unavailable" 501 Bridge NotSent false "confirm=server needs more rights"
        "give the NATS user publish and subscribe on natsway's inbox prefix, or use confirm=none or confirm=stream";
    JetStreamNotEnabled "jetstream-not-enabled" 501 Nats NotSent false "JetStream is not enabled"
        "enable JetStream on the NATS server and for the account";
    BadReply "bad-reply" 502 Responder Unknown false "The reply makes no sense"
        "what came back is not what was asked for";
    NatsError "nats-error" 502 Nats Rejected false "NATS answered with an error"
        "see `nats`";
    NoResponders "no-responders" 503 Responder NotSent true "Nobody answers on the subject"
        "no service listens on the subject";
    NatsDisconnected "nats-disconnected" 503 Nats NotSent true "NATS is not connected"
        "natsway reconnects by itself";
    Overloaded "overloaded" 503 Bridge NotSent true "natsway has too much to do"
        "try again a little later";
    CircuitOpen "circuit-open" 503 Responder NotSent true "The circuit is open"
        "what stands behind the route failed too often; it is tried again soon";
    JetStreamUnavailable "jetstream-unavailable" 503 Nats NotSent true "JetStream is not available now"
        "a leader is being elected, or JetStream is restarting";
    SubscriptionLimit "subscription-limit" 503 Nats NotSent true "NATS allows no more subscriptions"
        "the account's limit of subscriptions is reached";
    ShuttingDown "shutting-down" 503 Bridge NotSent true "natsway is shutting down"
        "ask another replica";
    ReplyTimeout "reply-timeout" 504 Responder Unknown false "No reply in time"
        "somebody listens on the subject but did not answer in time";
    PublishOutcomeUnknown "publish-outcome-unknown" 504 Nats Unknown false "The outcome is not known"
        "no confirmation in time; with confirm=stream and an Idempotency-Key it is safe to try again";
    StreamFull "stream-full" 507 Nats Rejected false "The stream is full"
        "the stream's limits are reached and it discards new messages";
    ServiceError "service-error" 500 Responder Rejected false "The service answered with an error"
        "see `reply`, which is left out where `memory.bodies` has no room for it";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `docs/problems.md` has to say, from the rows above.
    fn reference() -> String {
        let mut page = String::from(INTRODUCTION);
        for code in Code::ALL {
            let entry = code.entry();
            let retry = if entry.retryable { "yes" } else { "no" };
            page.push_str(&format!(
                "\n## {}\n\n{}: {}.\n\n| status | source | outcome | retryable |\n| --- | --- | --- | --- |\n| {} | {} | {} | {} |\n",
                entry.code,
                entry.title,
                entry.detail,
                entry.status.as_u16(),
                entry.source.as_str(),
                entry.outcome.as_str(),
                retry,
            ));
        }
        page
    }

    const INTRODUCTION: &str = "\
# Problems

Every error that natsway answers is `application/problem+json` (RFC 9457); only what the HTTP parser rejects
before natsway sees a request gets the parser's bare 400, 414 or 431. Three members say what a status cannot:

- `outcome`: `not_sent`, nothing left natsway, and nothing will; `rejected`, NATS or the responder
  refused it; `unknown`, it may or may not have arrived.
- `retryable`: whether the same request may be sent again and may do better. It is true for
  `not_sent` with a passing cause, and for `unknown` only with an `Idempotency-Key` and
  `confirm=stream`, where a repeat is stored once; not with `expect_last_seq` or
  `expect_last_subject_seq`, which the server checks before it recognises a repeat.
- `source`: who failed: `client`, `bridge` (natsway), `nats` or `responder`.

`request_id` is the same as the header `X-Request-Id` and stands in natsway's log. `limit`, `current`
and `nats` (`err_code`, `description`) are there where they help. Every 429 and 503 has `Retry-After`.

The tables give the defaults of each code; where it depends on the case, the answer is right.
";

    #[test]
    fn the_documentation_has_every_row() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/problems.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == reference(),
            "docs/problems.md is out of date; BLESS=1 cargo test --lib rewrites it"
        );
    }

    #[test]
    fn no_code_stands_twice() {
        let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
