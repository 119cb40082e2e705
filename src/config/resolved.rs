//! The validated configuration: what the broker runs with.
//!
//! Made by `config::resolve` from the raw file and the arguments; plain data from then on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::access::{AccessConfig, Link};
use super::address::ListenAddress;
use super::doors::Doors;
use super::limits::{
    Durability, ListenerLimits, MessageLimits, NetworkLimits, ObservabilityLimits, RetainedLimits,
    SessionLimits, StorageLimits,
};
use super::profile::Profile;

/// Where MQTT listens when nothing is configured: loopback, the registered port.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:1883";
/// How long clients have to take their last packets at shutdown, seconds.
pub const SHUTDOWN_GRACE_S: u16 = 10;
/// How often `$SYS` topics are published, seconds, as Mosquitto does.
pub const SYSTEM_TOPICS_INTERVAL_S: u16 = 10;

/// How a shared group chooses the member for a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedStrategy {
    /// Each member in turn.
    #[default]
    RoundRobin,
    /// The member with the fewest unacknowledged messages.
    LeastInFlight,
    /// One publisher's messages go to one member, while it is there.
    StickyByPublisher,
    /// One topic's messages go to one member, while it is there.
    HashOfTopic,
}

/// Owner, group and mode of a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixOptions {
    /// User name or number; the broker's own by default.
    pub owner: Option<String>,
    /// Group name or number; the broker's own by default.
    pub group: Option<String>,
    /// Permission bits; 0o660 by default.
    pub mode: Option<u32>,
}

/// One place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// For Unix sockets.
    pub unix: UnixOptions,
    /// Whether clients without credentials may connect.
    pub allow_anonymous: bool,
    /// What acknowledgements to its clients promise, if not what the whole broker does.
    pub durability: Option<Durability>,
    /// TLS, WebSocket, PROXY protocol, and who may connect.
    pub doors: Doors,
    /// Its own authentication chain, if it has one.
    pub authentication: Option<Vec<Link>>,
    /// Its limits.
    pub limits: ListenerLimits,
    /// It was there when the process started or later and is no more, or has another place: nobody is
    /// accepted here, and the place stays for the connections that came through it.
    pub closed: bool,
}

/// Points clients elsewhere at CONNECT (Server Reference, 4.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where to.
    pub server_reference: String,
    /// Server moved (0x9D) rather than Use another server (0x9C).
    pub permanent: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Levels of single modules, as `"ringmq::shard" = "debug"`.
    pub modules: BTreeMap<String, String>,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".into(),
            modules: BTreeMap::new(),
            format: LogFormat::Text,
        }
    }
}

/// Where and to whom the administration interface answers; nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// For browsers, metrics and other machines.
    pub address: Option<SocketAddr>,
    /// A Unix socket for this machine.
    pub socket: Option<PathBuf>,
    /// Roles and bearer tokens.
    pub token_file: Option<PathBuf>,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where defaults come from.
    pub profile: Profile,
    /// How many shards; one for each core if not set.
    pub shards: Option<u16>,
    /// The CPUs to pin shards to; all allowed ones if not set.
    pub cores: Option<Vec<usize>>,
    /// Where the broker writes down that it runs and with what.
    pub runtime_directory: Option<String>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Limits of sessions.
    pub session: SessionLimits,
    /// Limits of messages.
    pub message: MessageLimits,
    /// How shared groups choose.
    pub shared_strategy: SharedStrategy,
    /// Limits of retained messages.
    pub retained: RetainedLimits,
    /// Limits of network and mesh.
    pub network: NetworkLimits,
    /// How often `$SYS` topics are published, seconds; 0 is never.
    pub system_topics_interval_s: u16,
    /// Where sessions and retained messages are kept; without it they end with the process.
    pub data_dir: Option<String>,
    /// What acknowledgements promise; `fsync` if not set and there is a `data_dir`.
    pub durability: Option<Durability>,
    /// Limits of the store.
    pub storage: StorageLimits,
    /// Points all clients elsewhere.
    pub redirect: Option<Redirect>,
    /// Who may connect, and what they may do.
    pub access: AccessConfig,
    /// What is logged.
    pub log: LogConfig,
    /// How long a shutdown may take, seconds.
    pub shutdown_grace_s: u16,
    /// The administration interface.
    pub admin: AdminConfig,
    /// Limits of what is told about the broker.
    pub observability: ObservabilityLimits,
}

impl Listener {
    /// A listener at `address` with default limits; anonymous clients only if it is local.
    pub fn at(address: ListenAddress) -> Self {
        let name = match &address {
            ListenAddress::Tcp(_) => "mqtt",
            ListenAddress::Unix(_) => "unix",
        };
        Self {
            name: name.into(),
            allow_anonymous: address.is_local(),
            address,
            unix: UnixOptions::default(),
            durability: None,
            doors: Doors::default(),
            authentication: None,
            limits: ListenerLimits::default(),
            closed: false,
        }
    }
}

impl Config {
    /// What acknowledgements to the clients of a listener promise.
    pub fn durability_at(&self, listener: u16) -> Durability {
        if self.data_dir.is_none() {
            return Durability::Memory;
        }
        let listener = self.listeners.get(usize::from(listener));
        listener
            .and_then(|listener| listener.durability)
            .or(self.durability)
            .unwrap_or(Durability::Fsync)
    }

    /// The strongest promise that is made anywhere.
    pub fn durability_max(&self) -> Durability {
        let listeners = (0u16..).zip(&self.listeners);
        listeners
            .map(|(listener, _)| self.durability_at(listener))
            .max()
            .unwrap_or_default()
    }

    /// The authentication chain of a listener: its own, or that of all.
    pub fn chain<'a>(&'a self, listener: &'a Listener) -> &'a [Link] {
        let own = listener.authentication.as_deref();
        own.unwrap_or(&self.access.authentication.chain)
    }

    /// Whether a listener can ask its clients who they are.
    pub fn authenticates(&self, listener: &Listener) -> bool {
        !self.chain(listener).is_empty() || !self.access.authentication.methods.is_empty()
    }
}

impl Default for Config {
    fn default() -> Self {
        let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 1883));
        Self {
            profile: Profile::default(),
            shards: None,
            cores: None,
            runtime_directory: None,
            listeners: vec![Listener::at(ListenAddress::Tcp(loopback))],
            session: SessionLimits::default(),
            message: MessageLimits::default(),
            shared_strategy: SharedStrategy::default(),
            retained: RetainedLimits::default(),
            network: NetworkLimits::default(),
            system_topics_interval_s: SYSTEM_TOPICS_INTERVAL_S,
            data_dir: None,
            durability: None,
            storage: StorageLimits::default(),
            redirect: None,
            access: AccessConfig::default(),
            log: LogConfig::default(),
            shutdown_grace_s: SHUTDOWN_GRACE_S,
            admin: AdminConfig::default(),
            observability: ObservabilityLimits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_listener_is_the_documented_one() {
        assert_eq!(
            Config::default().listeners[0].address.to_string(),
            DEFAULT_ADDRESS
        );
        assert!(Config::default().listeners[0].allow_anonymous);
    }
}
