//! Configuration: what the file says, checked, and what the broker runs with.

pub mod address;
pub mod limits;
pub mod resolved;

pub use resolved::{Config, Listener, LogConfig, LogFormat, Redirect, SharedStrategy};
