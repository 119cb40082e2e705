//! The process around the shards: start, signals, end.
//!
//! Called by `main`. Not here: anything that a client can notice while the broker runs.

pub mod launch;
