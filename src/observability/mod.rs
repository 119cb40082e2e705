//! What the broker tells about itself: counters and logs.

pub mod counters;
pub mod log;
