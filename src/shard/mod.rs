//! One core: a ring, a broker, and the turn that moves bytes between them.
//!
//! Called by `runtime`, which starts one shard per core on its own pinned executor. Everything happens in
//! the turn: one enter of the ring, its completions, the inbox, the timers, then all output at once.
//! As long as glommio owes nothing, the shard sleeps in its own ring and never yields.
//!
//! Not here: what packets mean (`broker`), system calls (`net`).

mod accept;
mod connection;
mod control;
mod door;
mod durable;
pub mod mesh;
mod output;
mod questions;
mod rate;
mod receive;
mod reconfigure;
mod sleeping;
mod spin;
mod turn;
mod watch;

/// What [`sleeping`] is made of: `tests/loom` gives it another.
mod atomic {
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};
}

pub use connection::ListenerGate;
pub use control::{Question, Reply};
pub use durable::ShardError;
pub use questions::Asked;
pub use reconfigure::ListenerChange;
pub use turn::{ListenerSocket, Setup, Shard};
