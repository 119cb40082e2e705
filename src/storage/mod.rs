//! The store: the log of each shard in files, and the way back from files to what a shard begins with.
//!
//! Used by `runtime`, which opens the store before the shards start; by `shard`, which hands over groups; and by
//! `ringmq store`. What records mean is in `journal`; who waits for a commit, in `broker`.
//!
//! A data directory holds `lock`, `manifest`, and a directory for each generation with one for each shard, in
//! which the segments lie. A generation is made anew only when the number of shards changes.

#[allow(unsafe_code)] // one line, as the tidy test makes sure
mod bell;
pub mod directory;
pub mod inspect;
mod log;
pub mod recovery;
mod segment;

pub use log::{Log, LogError};
pub use recovery::{FoundSession, ShardStart, Store};

use std::path::PathBuf;

/// The format of all files; a later one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "{0}: another broker is using this data directory; stop it, or give this one another data_dir"
    )]
    Locked(PathBuf),
    /// It was written by a later version.
    #[error(
        "{path}: this is format {found}, and this version of RingMQ knows {FORMAT_VERSION}: it was written by a \
         later version; run that one, or use another data_dir"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The manifest makes no sense.
    #[error(
        "{path}: line {line} is not what a manifest has there; restore it from a backup, or move the directory away"
    )]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
    /// The operating system refused.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

impl StoreError {
    fn io(path: impl Into<PathBuf>, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, what, source }
    }
}
