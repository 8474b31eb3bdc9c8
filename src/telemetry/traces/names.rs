//! Every name in a span, after OpenTelemetry's semantic conventions 1.44: HTTP spans are stable, messaging
//! spans in development, and NATS has no names of its own in them yet.
//!
//! `url.path`, which they ask for, is left out: in a path there may be a subject, a person's name or an ack
//! token. `http.route` says where a request went.

/// The conventions these names are from.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
/// Who writes the spans.
pub const SCOPE: &str = "natsway";

/// The method, one of the route's.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// The path of the route, with captures.
pub const HTTP_ROUTE: &str = "http.route";
/// The status of the answer.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// How the request came.
pub const URL_SCHEME: &str = "url.scheme";
/// What failed: the code of a problem.
pub const ERROR_TYPE: &str = "error.type";

/// `nats`. Not in the registry, but what other instrumentations write.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// The word of the system for what is done.
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// The word of the conventions for it.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The subject.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";

/// Who shares the messages: the consumer.
pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";
/// How many messages.
pub const MESSAGING_BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// Which message: its stream and its sequence there.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";

/// Ours: the stream.
pub const NATS_STREAM: &str = "nats.stream";
/// Ours: the consumer.
pub const NATS_CONSUMER: &str = "nats.consumer";
/// Ours: which delivery of the message it was.
pub const NATS_DELIVERED: &str = "nats.delivered";

/// Ours: the request id, which logs and problems have.
pub const REQUEST_ID: &str = "natsway.request_id";
/// Ours: the name of the route, as in metrics and logs.
pub const ROUTE: &str = "natsway.route";

/// The value of [`MESSAGING_SYSTEM`].
pub const NATS: &str = "nats";
/// The value of [`MESSAGING_OPERATION_TYPE`] for publishing and for requesting.
pub const SEND: &str = "send";
/// A message is published.
pub const PUBLISH: &str = "publish";
/// A request is sent, and its reply waited for.
pub const REQUEST: &str = "request";

/// The value of [`MESSAGING_OPERATION_TYPE`] for fetching.
pub const RECEIVE: &str = "receive";
/// Messages of a consumer are fetched.
pub const FETCH: &str = "fetch";
/// The value of [`MESSAGING_OPERATION_TYPE`] for whatever is said about a fetched message.
pub const SETTLE: &str = "settle";
/// A message is done.
pub const ACK: &str = "ack";
/// A message is to come again.
pub const NAK: &str = "nak";
/// A message is never to come again.
pub const TERM: &str = "term";
/// A message takes longer.
pub const WPI: &str = "wpi";
/// The value of [`MESSAGING_OPERATION_TYPE`] for handing a message to a reader.
pub const PROCESS: &str = "process";
/// A message is handed to the reader of a stream.
pub const STREAM: &str = "stream";
