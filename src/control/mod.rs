//! The control thread: the administration interface over HTTP, beside the shards.
//!
//! Started by `main` with the shards' inboxes. It owns nothing of the broker: it asks the shards and merges
//! their answers. One thread with a current-thread runtime serves all connections, which are few.
//!
//! Not here: what an answer contains (`broker::answer`), the command line that talks to it (`tool`).

mod access;
mod api;
mod audit;
mod bans;
mod listing;
mod metrics;
mod problem;
mod server;
mod shards;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::ask::{Answer, Ask, Census};
use crate::config::{AdminConfig, Config, LogConfig};
use crate::observability::log::LogControl;
use crate::routing::topic_hash::TopicHasher;
use crate::shard::mesh::Peer;

use access::Tokens;
use bans::BanStore;
pub use server::{BoundDoors, bind};
use shards::Shards;

/// How often queues and windows are counted, at least.
const CENSUS_EVERY: Duration = Duration::from_secs(5);
/// A count of all sessions takes at most this part of the time.
const CENSUS_PART: u32 = 50;

/// What the control thread works with.
pub struct Setup {
    /// Of the process.
    pub config: Arc<Config>,
    /// The ways to the shards.
    pub peers: Vec<Peer>,
    /// The shards' own.
    pub hasher: TopicHasher,
    /// The log, whose level can be changed.
    pub log: Arc<LogControl>,
    /// Asks the process to shut down, as SIGTERM does.
    pub drain: fn(),
    /// Asks the process to read its configuration again, as SIGHUP does.
    pub reload: fn(),
}

/// What the requests share.
struct State {
    config: Arc<Config>,
    shards: Shards,
    tokens: Tokens,
    log: Arc<LogControl>,
    log_config: Mutex<LogConfig>,
    bans: Mutex<BanStore>,
    census: Mutex<Census>,
    started: Instant,
    draining: std::sync::atomic::AtomicBool,
    drain: fn(),
    reload: fn(),
}

/// Why the administration interface cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot listen.
    #[error("the administration interface cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// The token file cannot be used.
    #[error("{0}")]
    Tokens(String),
    /// There is no thread or runtime.
    #[error("the control thread cannot start: {0}")]
    Thread(std::io::Error),
}

/// Starts the control thread, if the interface is configured at all.
///
/// # Errors
/// The token file is not good, or there is no thread for it.
pub fn start(doors: BoundDoors, setup: Setup) -> Result<(), ControlError> {
    if doors.is_empty() {
        return Ok(());
    }
    let tokens = tokens(&setup.config.admin)?;
    let state = Arc::new(State {
        shards: Shards::new(setup.peers, setup.hasher),
        tokens,
        log_config: Mutex::new(setup.config.log.clone()),
        log: setup.log,
        bans: Mutex::new(BanStore::default()),
        census: Mutex::new(Census::default()),
        started: Instant::now(),
        draining: std::sync::atomic::AtomicBool::new(false),
        drain: setup.drain,
        reload: setup.reload,
        config: setup.config,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Thread)?;
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(count_sessions(Arc::clone(&state)));
                tokio::spawn(end_bans(Arc::clone(&state)));
                server::serve(doors, state).await;
            });
        })
        .map(drop)
        .map_err(ControlError::Thread)
}

fn tokens(admin: &AdminConfig) -> Result<Tokens, ControlError> {
    match &admin.token_file {
        Some(file) => Tokens::load(file).map_err(ControlError::Tokens),
        None => Ok(Tokens::default()),
    }
}

/// Counts queues and windows of all sessions, page by page, again and again.
async fn count_sessions(state: Arc<State>) {
    loop {
        let began = Instant::now();
        if let Some(census) = census(&state.shards).await {
            *lock(&state.census) = census;
        }
        let pause = CENSUS_EVERY.max(began.elapsed() * CENSUS_PART);
        tokio::time::sleep(pause).await;
    }
}

async fn census(shards: &Shards) -> Option<Census> {
    let mut census = Census::default();
    for shard in 0..shards.count() {
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            match shards.ask(shard, Ask::Census { cursor: from }).await {
                Ok(Answer::Census(part, next)) => {
                    census.add(&part);
                    cursor = next;
                }
                _ => return None,
            }
        }
    }
    Some(census)
}

/// Tells the shards when a ban has ended.
async fn end_bans(state: Arc<State>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let changed = lock(&state.bans).remove_ended(unix_s());
        if changed {
            let bans = lock(&state.bans).in_force();
            let _ = state
                .shards
                .ask_all(|| Ask::SetBans(Arc::clone(&bans)))
                .await;
        }
    }
}

/// A lock whose holder never panics with it half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
