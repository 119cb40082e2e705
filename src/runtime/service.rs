//! What the service manager is told: ready, reloading, stopping, alive (sd_notify).
//!
//! Used by `main`. The watchdog is fed by the shards: each answers a beat from within its turn, and only when
//! all have answered is the manager told that the process lives. A shard that hangs in a turn stops it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use sd_notify::NotifyState;

use crate::config::limits::SHARDS_MAX;
use crate::shard::mesh::{Message, Peer, Unsent};

/// How often the status is brought up to date when there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The way to the service manager; without one it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// What the process does, for the status.
    doing: Arc<Mutex<String>>,
}

impl Service {
    /// Listeners accept: the process is ready, for the first time or after a reload.
    pub fn ready(&self, doing: String) {
        tell(&[NotifyState::Ready, NotifyState::Status(&doing)]);
        self.set_doing(doing);
    }

    /// The configuration is being read again; [`Self::ready`] ends that.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "cannot read the monotonic clock"),
        }
    }

    /// The process ends.
    pub fn stopping(&self) {
        let doing = "shutting down";
        tell(&[NotifyState::Stopping, NotifyState::Status(doing)]);
        self.set_doing(doing.into());
    }

    fn set_doing(&self, doing: String) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    /// Asks the shards for beats from now on, on a thread of its own, and tells the manager of them.
    pub fn watch(&self, peers: Vec<Peer>) {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        let watchdog = sd_notify::watchdog_enabled();
        // Three times in the time that the manager waits: one may be late.
        let every = watchdog.map_or(STATUS_EVERY, |time| time / 3);
        let doing = Arc::clone(&self.doing);
        let watch = move || {
            let mut last = String::new();
            loop {
                let start = Instant::now();
                let connections = beat(&peers, every);
                if watchdog.is_some() {
                    tell(&[NotifyState::Watchdog]);
                }
                let doing = doing.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let status = format!("{doing}; {connections} connections");
                if status != last {
                    tell(&[NotifyState::Status(&status)]);
                    last = status;
                }
                std::thread::sleep(every.saturating_sub(start.elapsed()));
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into());
        if let Err(error) = thread.spawn(watch) {
            tracing::error!(%error, "there is no thread for the watchdog");
        }
    }
}

/// Waits until every shard has answered from within a turn; gives the number of connections. A shard that has
/// ended, as they do at shutdown, needs not answer.
fn beat(peers: &[Peer], every: Duration) -> usize {
    let (answer, answers) = crossbeam_channel::bounded(usize::from(SHARDS_MAX));
    for peer in peers {
        while peer.send_within(Message::Beat(answer.clone()), every) == Err(Unsent::Stuck) {
            tracing::error!("a shard does not empty its inbox");
        }
    }
    drop(answer);
    let mut silent: Vec<bool> = vec![true; peers.len()];
    let mut connections = 0;
    let start = Instant::now();
    loop {
        match answers.recv_timeout(every) {
            Ok((shard, open)) => {
                connections += open;
                if let Some(silent) = silent.get_mut(usize::from(shard)) {
                    *silent = false;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return connections,
            Err(RecvTimeoutError::Timeout) => {
                let shards: Vec<_> = (0..peers.len()).filter(|shard| silent[*shard]).collect();
                let seconds = start.elapsed().as_secs();
                tracing::error!(?shards, "no turn has ended for {seconds} s");
            }
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
