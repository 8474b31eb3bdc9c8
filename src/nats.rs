//! The heart of natsway: pooled connections to NATS that heal themselves and never lie.
//!
//! async-nats speaks the protocol. What it does not do is say honestly what became of a message, and
//! that is done here. One client of async-nats is one connection is one epoch ([`Connection`]): it
//! is never renewed, so nothing that waited in it can be sent late. A [`Link`] is the way over one
//! connection after the other, kept up by its supervisor. The [`Nats`] pool holds the links, in
//! classes that cannot stall one another: messages, subscriptions, JetStream.

mod connect;
mod connection;
mod credentials;
mod events;
mod failure;
mod fence;
mod hub;
mod link;
mod message;
mod pending;
mod permissions;
mod pool;
mod queue;
mod reading;
mod refusals;
mod replies;
mod room;
mod sender;
mod settings;
mod stats;
mod subscription;
mod supervisor;
mod ticket;
mod upkeep;

pub use connection::Connection;
pub use failure::Failure;
use failure::Refused;
pub use hub::{Budget, Buffer, Delivery, Event, FORMS, GapReason, Hub, HubStats, Reader, Stored};
pub use link::{Call, Confirm, Link, LinkState};
pub use message::{Inbound, Outbound, header_block_bytes};
pub use pending::{Pending, PendingReply, Replies, RunConfirm};
pub use pool::Nats;
pub use queue::{QueueLimits, bytes_in_queue};
pub use room::{Drawn, Reply, Room};
pub use settings::{Auth, Credential, Settings, Tls};
pub use stats::LinkStats;
