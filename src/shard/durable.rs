//! The log at work in the turn: groups go out, commits come back, and the shard sleeps where both can wake it.
//!
//! As long as the log has nothing in flight the shard sleeps in its own ring. While it has, glommio must be
//! let at its rings: the shard waits for the bell, which the network ring rings, or for the log. glommio looks
//! at its rings only when every task waits, so a busy shard rings its own bell and waits for that.

use std::io;
use std::time::Duration;

use crate::broker::{Now, Restored, RestoredSession};
use crate::net::ring::Wait;
use crate::routing::ids::ShardId;
use crate::routing::interest_index::ShardBits;
use crate::storage::{Log, ShardStart};

use super::{Setup, Shard};

/// The longest sleep while the log is at work: glommio 0.9 may park beside a wake-up when it finds itself
/// preempted at the wrong moment.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// What the broker begins with.
pub(super) fn restored(mut start: ShardStart, shard_count: u16) -> Restored {
    let sessions = std::mem::take(&mut start.sessions);
    let all = (0..shard_count).map(ShardId);
    Restored {
        position: start.position,
        session_count: start.session_count,
        sessions: sessions
            .into_iter()
            .map(|session| RestoredSession {
                number: session.number,
                inbound: session
                    .inbound
                    .iter()
                    .map(|(identifier, shards)| {
                        let mut bits = ShardBits::default();
                        let known = all.clone().filter(|shard| shards.contains(&shard.0));
                        known.for_each(|shard| bits.insert(shard));
                        (*identifier, bits)
                    })
                    .collect(),
                stored: session.stored,
            })
            .collect(),
        retained: std::mem::take(&mut start.retained),
        origins: std::mem::take(&mut start.origins),
        records_all: start.records_all,
    }
}

impl Shard {
    /// Makes the shard on its own thread.
    ///
    /// # Errors
    /// If the kernel refuses the ring, or the files of the log.
    pub async fn open(setup: Setup, store: Option<ShardStart>) -> Result<Self, ShardError> {
        let mut with_log = None;
        if let Some(start) = store {
            let log = Log::open(setup.id.0, &start, setup.config.storage.clone()).await?;
            with_log = Some((log, start));
        }
        Self::new(setup, with_log)
    }

    /// Runs until every other shard knows the subscriptions that this one began with, and a new log has all of
    /// it; nobody is accepted before.
    ///
    /// # Errors
    /// The ring or the log fails.
    pub async fn prepare(&mut self) -> Result<(), ShardError> {
        while !(self.is_draining() || (self.broker.is_visible() && self.is_log_settled())) {
            self.step().await?;
        }
        Ok(())
    }

    /// Runs until the shard has drained.
    ///
    /// # Errors
    /// The ring or the log fails, which ends the process.
    pub async fn run(&mut self) -> Result<(), ShardError> {
        while !self.is_drained() {
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), ShardError> {
        if self.log.is_none() {
            return Ok(self.turn()?);
        }
        if self.log.as_ref().is_some_and(Log::is_busy) {
            self.wait_with_log().await?;
        } else {
            self.wait()?;
        }
        let now = self.take_completions();
        self.take_commits(now)?;
        self.work(now);
        self.begin_commit(now)?;
        Ok(())
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_log_settled(&self) -> bool {
        let busy = self.log.as_ref().is_some_and(|log| !log.is_ready());
        !busy && !self.broker.has_group()
    }

    /// Whether something waits to be written and the log is free.
    pub(super) fn may_begin_commit(&self) -> bool {
        self.broker.has_group() && self.log.as_ref().is_some_and(Log::is_ready)
    }

    /// Waits for the network or for the log.
    async fn wait_with_log(&mut self) -> io::Result<()> {
        let wait = self.prepare_to_wait();
        let longest = match wait {
            Wait::Poll => None,
            Wait::Until(time) => Some(time.min(LONGEST_REST)),
            Wait::Forever => Some(LONGEST_REST),
        };
        if let Some(longest) = longest {
            self.ring.arm_timeout(longest);
        }
        self.ring.turn(Wait::Poll)?;
        let Some(log) = &self.log else { return Ok(()) };
        if longest.is_some() && self.ring.is_quiet() {
            log.rest().await;
        } else {
            log.pass().await;
        }
        self.ring.stop_ringing();
        self.ring.turn(Wait::Poll)?;
        self.awake();
        Ok(())
    }

    fn take_commits(&mut self, now: Now) -> Result<(), ShardError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        if let Some(written) = log.completed()? {
            self.broker.recycle_group(written.bytes);
            self.broker.committed(written.position, now);
        }
        Ok(())
    }

    /// Hands over what the turn has recorded, if the log is free.
    fn begin_commit(&mut self, now: Now) -> Result<(), ShardError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        log.look_after(self.broker.safe_position())?;
        self.broker.set_disk_full(log.is_full());
        if !log.is_ready() {
            return Ok(());
        }
        if self.broker.is_rewriting() {
            if let Some(safe_at) = self.broker.rewrite(now) {
                log.rewritten(safe_at);
            }
        } else if let Some(before) = log.wants_rewrite() {
            self.broker.begin_rewrite(before);
        }
        if let Some(group) = self.broker.take_group(now)
            && let Some(next) = log.begin(group)
        {
            self.broker.skip_to(next);
        }
        Ok(())
    }
}

/// Why a shard cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The network ring cannot be made.
    #[error("{0}")]
    Ring(#[from] crate::net::ring::RingError),
    /// The network ring has failed.
    #[error("the ring failed: {0}")]
    Enter(#[from] io::Error),
    /// The log has failed.
    #[error("{0}")]
    Log(#[from] crate::storage::LogError),
}
