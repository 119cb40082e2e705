//! The flag as the broker has it, on loom's atomics.

pub mod atomic {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
#[path = "../../src/shard/sleeping.rs"]
pub mod sleeping;
