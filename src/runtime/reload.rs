//! Another configuration for a broker that runs: all of it, or nothing.
//!
//! Called by `main` on SIGHUP. Whatever can fail is made first, beside what runs ([`Control::prepare`]); then
//! everything is put in its place ([`Control::commit`]). What needs a restart is said and left as it is.

use std::sync::Arc;

use crate::config::Config;
use crate::config::address::ListenAddress;
use crate::config::change::{Change, ListenerStep, Plan, plan};
use crate::net::listener::ListenError;
use crate::shard::ListenerChange;
use crate::shard::mesh::{Message, Peer};

use super::activation::Passed;
use super::launch::INBOX_PATIENCE;
use super::listeners::{OpenListener, Opening};

/// Why nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file has mistakes, one a line.
    #[error("{0}")]
    Configuration(String),
    /// A new listener cannot listen.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// A shard takes nothing; it has ended or is stuck.
    #[error("shard {0} does not take the configuration; restart the broker")]
    Shard(usize),
}

/// A change that cannot fail any more.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    opened: Vec<OpenListener>,
}

impl Prepared {
    /// What will be different.
    pub fn changes(&self) -> &[Change] {
        &self.plan.changes
    }

    /// The configuration as it will be.
    pub fn config(&self) -> &Config {
        &self.plan.config
    }
}

/// What changes the broker while it runs.
#[derive(Debug)]
pub struct Control {
    config: Arc<Config>,
    peers: Vec<Peer>,
    listeners: Vec<OpenListener>,
    passed: Passed,
}

impl Control {
    /// For shards that run with `config`.
    pub fn new(
        config: Arc<Config>,
        peers: Vec<Peer>,
        listeners: Vec<OpenListener>,
        passed: Passed,
    ) -> Self {
        Self {
            config,
            peers,
            listeners,
            passed,
        }
    }

    /// What the broker runs with.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Where it listens, for people.
    pub fn addresses(&self) -> String {
        let addresses = self.listeners.iter().map(|open| open.address().to_string());
        addresses.collect::<Vec<_>>().join(", ")
    }

    /// Makes everything that `wanted` has and the broker has not, beside what runs.
    ///
    /// # Errors
    /// What cannot be made; nothing is changed.
    pub fn prepare(&self, wanted: &Config) -> Result<Prepared, ReloadError> {
        let plan = plan(&self.config, wanted).map_err(ReloadError::Configuration)?;
        let opening = Opening {
            passed: &self.passed,
            shards: self.peers.len(),
            backlog: plan.config.network.listen_backlog,
        };
        let mut opened = Vec::new();
        for step in &plan.steps {
            if let ListenerStep::Open(place) = step {
                let listener = &plan.config.listeners[usize::from(*place)];
                opened.push(OpenListener::open(
                    *place,
                    listener,
                    &opening,
                    self.has_port_of(&listener.address),
                )?);
            }
        }
        Ok(Prepared { plan, opened })
    }

    /// Whether a listener of this broker has or had that port. It need not be free then: the new sockets take
    /// over what the old ones leave.
    fn has_port_of(&self, address: &ListenAddress) -> bool {
        let port = |address: &ListenAddress| match address {
            ListenAddress::Tcp(tcp) if tcp.port() != 0 => Some(tcp.port()),
            _ => None,
        };
        let wanted = port(address);
        let mut listeners = self.config.listeners.iter();
        wanted.is_some() && listeners.any(|other| port(&other.address) == wanted)
    }

    /// Puts everything in its place.
    ///
    /// # Errors
    /// A shard is stuck, which only a restart ends.
    pub fn commit(&mut self, prepared: Prepared) -> Result<(), ReloadError> {
        let Prepared { plan, mut opened } = prepared;
        let config = Arc::new(plan.config);
        for (shard, peer) in self.peers.iter().enumerate() {
            let message = Message::Reconfigure(Arc::clone(&config));
            peer.send_within(message, INBOX_PATIENCE)
                .map_err(|_| ReloadError::Shard(shard))?;
        }
        // Only now: a connection of a new place may come to every shard.
        for (shard, peer) in self.peers.iter().enumerate() {
            let changes = changes_of_a_shard(&plan.steps, &mut opened);
            if !changes.is_empty() {
                peer.send_within(Message::Listeners(changes), INBOX_PATIENCE)
                    .map_err(|_| ReloadError::Shard(shard))?;
            }
        }
        for step in &plan.steps {
            match *step {
                ListenerStep::Open(_) => {}
                ListenerStep::Move { from, to } => {
                    for open in self.listeners.iter_mut().filter(|open| open.place == from) {
                        open.move_to(to, &config.listeners[usize::from(to)]);
                    }
                }
                ListenerStep::Close(place) => self.listeners.retain(|open| open.place != place),
            }
        }
        for open in &opened {
            let name = &config.listeners[usize::from(open.place)].name;
            tracing::info!(listener = name, "listening on {}", open.address());
        }
        self.listeners.extend(opened);
        self.config = config;
        Ok(())
    }
}

fn changes_of_a_shard(steps: &[ListenerStep], opened: &mut [OpenListener]) -> Vec<ListenerChange> {
    let change = |step: &ListenerStep| match *step {
        ListenerStep::Open(place) => opened
            .iter_mut()
            .find(|open| open.place == place)
            .and_then(OpenListener::next_socket)
            .map(ListenerChange::Open),
        ListenerStep::Move { from, to } => Some(ListenerChange::Move { from, to }),
        ListenerStep::Close(place) => Some(ListenerChange::Close(place)),
    };
    steps.iter().filter_map(change).collect()
}
