//! Plain HTTP in front of NATS.

pub mod admin;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod layers;
pub mod lifecycle;
pub mod nats;
pub mod problem;
pub mod router;
pub mod server;
pub mod subject;
pub mod telemetry;
pub mod translate;
pub mod wake;
pub mod workers;
