//! The same flag with fences that do nothing: a deliberate fault.

pub mod atomic {
    pub use loom::sync::atomic::{AtomicBool, Ordering};

    pub fn fence(_ordering: Ordering) {}
}
#[path = "../../src/shard/sleeping.rs"]
pub mod sleeping;
