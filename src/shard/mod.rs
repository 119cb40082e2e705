//! One core: a ring, a broker, and the turn that moves bytes between them.
//!
//! Called by `runtime`, which starts one shard per core on its own pinned executor. Everything happens in
//! the turn: one enter of the ring, its completions, the inbox, the timers, then all output at once.
//! As long as glommio owes nothing, the shard sleeps in its own ring and never yields.
//!
//! Not here: what packets mean (`broker`), system calls (`net`).

mod connection;
pub mod mesh;
mod output;
mod question;
mod receive;
mod reconfigure;
mod turn;
mod watch;

pub use connection::ListenerGate;
pub use question::{Question, Reply};
pub use reconfigure::ListenerChange;
pub use turn::{ListenerSocket, Setup, Shard};
