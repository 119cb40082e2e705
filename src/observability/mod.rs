//! What the broker tells about itself: counters, histograms, the flight recorder, logs.

pub mod console;
pub mod counters;
pub mod latency;
pub mod log;
pub mod recorder;
pub mod sight;
