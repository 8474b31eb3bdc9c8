//! What natsway says about itself: logs, metrics and traces.

pub mod logs;
pub mod metrics;
pub mod traces;
