//! Starts the listeners and the shards, waits for a signal, and ends them in order.
//!
//! Called by `main` with a resolved configuration. Each shard runs on a glommio executor of its own, pinned
//! to one CPU; this thread only waits for signals.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::config::Config;
use crate::config::limits::{Durability, SHARDS_MAX};
use crate::journal::replay::Clock;
use crate::net::listener::ListenError;
use crate::routing::ids::ShardId;
use crate::routing::topic_hash::TopicHasher;
use crate::shard::mesh::{self, Message, Peer};
use crate::shard::{Setup, Shard, ShardError};
use crate::storage::{ShardStart, Store, StoreError};

use super::activation::Passed;
use super::listeners::{OpenListener, Opening, open_listeners};

use super::certificates::Certificates;
use super::verification::Verification;

/// What glommio registers for its own files on each executor, bytes. The network has buffers of its own.
const GLOMMIO_MEMORY_BYTES: usize = 1 << 20;
/// How long a task may keep the core before glommio looks at others. The shard is the only task and never
/// yields. A short time is a trap at start: when the thread is not scheduled for that long before its first
/// task has run, glommio 0.9 finds itself preempted, runs nothing, and parks for ever.
const PREEMPT: Duration = Duration::from_secs(3600);

/// Why the broker cannot start or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A listener cannot listen.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The kernel refuses what a shard needs.
    #[error("shard {shard}: {cause}")]
    Shard {
        /// Which.
        shard: u16,
        /// What the kernel said.
        cause: String,
    },
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The log of a shard has failed.
    #[error("shard {shard}: {cause}")]
    Log {
        /// Which.
        shard: u16,
        /// What failed.
        cause: String,
    },
    /// Descriptors for the doorbells.
    #[error("cannot connect the shards: {0}; raise LimitNOFILE (ulimit -n)")]
    Mesh(std::io::Error),
    /// Threads that ask who clients are.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
}

/// How long a shard may take to empty a full inbox; it does so every turn.
pub(super) const INBOX_PATIENCE: Duration = Duration::from_secs(10);

type Executor = ExecutorJoinHandle<Result<(), ShardError>>;

/// A broker that accepts connections.
pub struct Running {
    executors: Vec<Executor>,
    peers: Vec<Peer>,
    /// How topics and clients find their shard.
    pub hasher: TopicHasher,
    /// In the order of the configuration.
    pub listeners: Vec<OpenListener>,
    /// The store, locked as long as the broker runs.
    pub store: Option<Store>,
}

/// Starts the broker under the policy of `verification`: one shard for each of `cpus`, which may name a CPU more than once.
///
/// # Errors
/// What could not be started; nothing is left running.
pub fn launch(
    config: &Arc<Config>,
    cpus: &[usize],
    passed: &Passed,
    certificates: &Certificates,
    verification: &Verification,
) -> Result<Running, LaunchError> {
    let opening = Opening {
        passed,
        shards: cpus.len(),
        backlog: config.network.listen_backlog,
    };
    let mut listeners = open_listeners(config, &opening)?;
    // There are at most `SHARDS_MAX`.
    let shard_count = u16::try_from(cpus.len()).unwrap_or(u16::MAX);
    let inbox_batches_max = config.network.inbox_batches_max as usize;
    let (peers, inboxes) =
        mesh::connect(shard_count, inbox_batches_max).map_err(LaunchError::Mesh)?;
    let (questions, asked) = Verification::queue(config);
    verification
        .start(config, &asked, &peers)
        .map_err(LaunchError::Threads)?;
    let started = (Instant::now(), unix_s());
    let (mut store, hasher, mut starts) = open_store(config, shard_count, started.1)?;
    let (ready, all_ready) = crossbeam_channel::bounded(usize::from(SHARDS_MAX));
    let mut executors = Vec::new();
    for ((id, cpu), inbox) in (0..shard_count).zip(cpus).zip(inboxes) {
        let sockets = listeners.iter_mut().filter_map(OpenListener::next_socket);
        let setup = Setup {
            id: ShardId(id),
            config: Arc::clone(config),
            hasher: hasher.clone(),
            listeners: sockets.collect(),
            tls: Arc::clone(certificates.table()),
            inbox,
            peers: peers.clone(),
            policy: Arc::clone(&verification.access().policy),
            questions: Some(questions.clone()),
            started,
        };
        let store = starts.as_mut().and_then(Iterator::next);
        executors.push(spawn(setup, store, *cpu, ready.clone())?);
    }
    drop(ready);
    let running = Running {
        executors,
        peers,
        hasher,
        listeners,
        store: None,
    };
    for _ in 0..shard_count {
        if let Ok((shard, Err(error))) = all_ready.recv() {
            running.drainer().drain();
            return Err(of_shard(shard, &error));
        }
    }
    if let Some(store) = &mut store
        && let Err(error) = store.complete()
    {
        running.drainer().drain();
        return Err(error.into());
    }
    running.drainer().send(|| Message::Open);
    Ok(Running { store, ..running })
}

type Ready = crossbeam_channel::Sender<(u16, Result<(), ShardError>)>;

type Starts = Option<std::vec::IntoIter<ShardStart>>;

/// The store, if there is to be one, with the key of its hashes.
fn open_store(
    config: &Config,
    shard_count: u16,
    unix_s: u64,
) -> Result<(Option<Store>, TopicHasher, Starts), LaunchError> {
    let key = random_key();
    let data_dir = config.data_dir.as_ref();
    let Some(data_dir) = data_dir.filter(|_| config.durability_max() > Durability::Memory) else {
        return Ok((None, TopicHasher::new(key), None));
    };
    let clock = Clock { mono_ms: 0, unix_s };
    let opened = Store::open(Path::new(data_dir), config, shard_count, key, clock)?;
    let (store, hasher, starts) = opened;
    Ok((Some(store), hasher, Some(starts.into_iter())))
}

fn of_shard(shard: u16, error: &ShardError) -> LaunchError {
    let cause = error.to_string();
    match error {
        ShardError::Log(_) => LaunchError::Log { shard, cause },
        _ => LaunchError::Shard { shard, cause },
    }
}

fn spawn(
    setup: Setup,
    store: Option<ShardStart>,
    cpu: usize,
    ready: Ready,
) -> Result<Executor, LaunchError> {
    let shard = setup.id.0;
    let failed = |error: &dyn std::fmt::Display| LaunchError::Shard {
        shard,
        cause: error.to_string(),
    };
    let others = Drainer {
        peers: setup.peers.clone(),
    };
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{shard}"))
        .io_memory(GLOMMIO_MEMORY_BYTES)
        .preempt_timer(PREEMPT)
        .spawn(move || async move {
            let prepared = async {
                let mut running = Shard::open(setup, store).await?;
                running.prepare().await?;
                Ok(running)
            };
            // The receiver waits for every shard.
            let mut running = match prepared.await {
                Ok(running) => running,
                Err(error) => {
                    let _ = ready.send((shard, Err(error)));
                    return Ok(());
                }
            };
            let _ = ready.send((shard, Ok(())));
            drop(ready);
            running.run().await.inspect_err(|error| {
                // Nobody can rely on a broker without one of its shards: the others tell their clients.
                tracing::error!(shard, %error, "a shard failed; the broker ends");
                others.drain();
            })
        })
        .map_err(|error| failed(&error))
}

/// Asks the shards to end.
pub struct Drainer {
    peers: Vec<Peer>,
}

impl Drainer {
    /// Asks every shard to stop accepting, to tell its clients, and to end.
    pub fn drain(&self) {
        self.send(|| Message::Drain);
    }

    fn send(&self, message: impl Fn() -> Message) {
        for peer in &self.peers {
            // A shard that has ended needs no telling.
            let _ = peer.send_within(message(), INBOX_PATIENCE);
        }
    }
}

impl Running {
    /// What asks the shards to end while another thread waits for them.
    pub fn drainer(&self) -> Drainer {
        Drainer {
            peers: self.peers.clone(),
        }
    }

    /// The ways to the shards.
    pub fn peers(&self) -> Vec<Peer> {
        self.peers.clone()
    }

    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// The first that failed, and why.
    pub fn join(self) -> Result<(), LaunchError> {
        let mut result = Ok(());
        for (shard, executor) in (0u16..).zip(self.executors) {
            let error = match executor.join() {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => of_shard(shard, &error),
                Err(error) => LaunchError::Shard {
                    shard,
                    cause: error.to_string(),
                },
            };
            if result.is_ok() {
                result = Err(error);
            }
        }
        result
    }
}

/// Prints the start-up block; a closed standard output does not matter.
pub fn print_block(block: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(block.as_bytes()).and_then(|()| out.flush());
}

/// A key that no client can know: the hasher's own random seed of this process.
fn random_key() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
