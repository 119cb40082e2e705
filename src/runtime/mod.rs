//! The process around the shards: start, signals, end.
//!
//! Called by `main`. Not here: anything that a client can notice while the broker runs.

pub mod activation;
pub mod exit_code;
pub mod kernel_probe;
pub mod launch;
pub mod listeners;
pub mod placement;
pub mod record;
pub mod reload;
pub mod service;
pub mod signals;
pub mod startup;
