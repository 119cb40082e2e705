//! What is read from clocks and from `/proc`.

pub mod latency;
pub mod machine;
pub mod placement;
pub mod process;
