//! Plain HTTP in front of NATS.

pub mod api;
pub mod cli;
pub mod config;
pub mod nats;
pub mod problem;
pub mod subject;
pub mod translate;
